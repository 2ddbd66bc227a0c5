"""Outputs found beneath mounts that are plain directories here."""

from pathlib import Path

import pytest

from raytes.errors import InvalidMounts, OutputFailed
from raytes.models import TesOutput
from raytes.runner.beneath import Namespace
from raytes.runner.mounts import Bind
from raytes.runner.outputs import FoundOutput, find_output


def find(directory: Path, path: str, path_prefix: str | None = None) -> FoundOutput:
    output = TesOutput(path=path, url="file:///x", path_prefix=path_prefix)
    return find_output(output, Namespace([Bind(directory, "/d", writable=True)]), pytest.fail)


@pytest.mark.parametrize("kind", ["files", "a file and an empty directory"])
def test_two_files_that_would_be_one_are_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "xa").touch()
    (tmp_path / "x").mkdir()
    (tmp_path / "x/a").touch() if kind == "files" else (tmp_path / "x/a").mkdir()

    with pytest.raises(InvalidMounts, match="the outputs /d/x/a and /d/xa can't both be stored"):
        find(tmp_path, "/d/x*", "/d/x")

    found = find(tmp_path, "/d/x*", "/d/")
    assert sorted(found.paths) == ["x/a", "xa"]


@pytest.mark.parametrize("path", ["/d/" + "n" * 256, "/d/sub/" * 900])
def test_a_path_longer_than_any_can_be_is_not_the_node_s_fault(tmp_path: Path, path: str) -> None:
    with pytest.raises(OutputFailed) as failed:
        find(tmp_path, path, "/")
    assert (failed.value.transient, failed.value.of_node) == (False, False)
