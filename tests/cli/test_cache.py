import json
import os
from pathlib import Path

import pytest

from raytes.cli import main
from raytes.config import Settings


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with two files, one of them in use by a task, and one on its way."""
    directory = Settings(state_dir=tmp_path).cache / "boot" / "ab"
    directory.mkdir(parents=True)
    (directory / "abc").write_bytes(b"x" * 1000)
    (directory / "abd").write_bytes(b"x" * 2000)
    (directory / "abe.part").write_bytes(b"x")
    os.link(directory / "abd", tmp_path / "used")
    return directory


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(["cache", *arguments], standalone_mode=False)
    return capsys.readouterr().out


def test_it_shows_what_the_node_keeps(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(capsys, "--state-dir", str(tmp_path)).splitlines()
    assert lines == [
        f"{tmp_path}/cache, of 20 GB:",
        "2 files, 3.0 kB",
        "1 of them, 2.0 kB, in use by tasks",
        "1 being fetched",
    ]


def test_clearing_leaves_what_tasks_are_using(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(shown(capsys, "--clear", "--json", "--state-dir", str(tmp_path)))
    assert (found["files"], found["size"], found["fetching"]) == (1, 2000, 1)
    assert sorted(path.name for path in cache.iterdir()) == ["abd", "abe.part"]


def test_a_node_without_a_cache_keeps_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(shown(capsys, "--json", "--state-dir", str(tmp_path)))
    assert (found["files"], found["size"]) == (0, 0)
