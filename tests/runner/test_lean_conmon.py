"""A conmon without Podman's exit command."""

from pathlib import Path

import pytest

from raytes.runner.lean_conmon import podmans_conmon


def test_where_podman_is_gone_its_conmon_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert podmans_conmon() is None
