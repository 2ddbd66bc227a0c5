import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raytes.errors import Canceled, DiskFull
from raytes.runner.allowance import bytes_on_disk, within_disk, within_time
from raytes.runner.control import Control
from raytes.runner.sweep import remove_tree

FAILURE = DiskFull("enough")


def wait_to_be_told(control: Control) -> None:
    assert control.stop.wait(20)
    control.check()


def wait_to_be_canceled(control: Control) -> None:
    deadline = time.monotonic() + 20
    while not control.canceled:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    control.check()


def test_when_the_time_is_up_the_failure_is_raised_and_the_attempt_goes_on() -> None:
    control = Control()
    with pytest.raises(DiskFull), within_time(0.01, control, FAILURE):
        wait_to_be_told(control)
    control.check()


def test_when_the_disk_is_used_up_the_failure_is_raised(tmp_path: Path) -> None:
    control = Control()
    (tmp_path / "f").write_bytes(bytes(200_000))
    with pytest.raises(DiskFull), within_disk(100_000, lambda: [tmp_path], control, FAILURE):
        wait_to_be_told(control)
    control.check()


def test_who_cancels_is_heard_before_a_failure() -> None:
    control = Control()
    threading.Thread(target=lambda: control.stop.wait(20) and control.cancel()).start()
    with pytest.raises(Canceled), within_time(0.01, control, FAILURE):
        wait_to_be_canceled(control)


def test_without_a_limit_nothing_is_watched(tmp_path: Path) -> None:
    control = Control()
    before = threading.active_count()
    with (
        within_time(None, control, FAILURE),
        within_disk(0, lambda: [tmp_path], control, FAILURE),
    ):
        assert threading.active_count() == before


def test_what_lies_below_is_counted_and_what_is_linked_to_is_not(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/f").write_bytes(bytes(1_000_000))
    (tmp_path / "link").symlink_to("/usr")
    assert 1_000_000 <= bytes_on_disk(tmp_path) < 1_200_000


def test_a_directory_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    assert bytes_on_disk(tmp_path / "gone") == 0


def test_what_lies_deeper_than_a_path_can_name_is_counted_too(tmp_path: Path) -> None:
    at = os.open(tmp_path, os.O_RDONLY)
    for level in range(1500):
        os.mkdir("d" * 50, dir_fd=at)
        os.mkdir("e", dir_fd=at)
        below = os.open("d" * 50, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
        if level in (700, 1499):
            with open("f", "wb", opener=lambda name, flags: os.open(name, flags, dir_fd=at)) as f:  # noqa: B023
                f.write(bytes(10_000_000))
    os.close(at)
    try:
        assert 20_000_000 <= bytes_on_disk(tmp_path) < 40_000_000
    finally:
        remove_tree(tmp_path)


def test_what_vanishes_hides_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(100_000))

    class Vanishing:
        """The entries of a directory, of which every other is gone by the time it is looked at."""

        def __init__(self, directory: int) -> None:
            self.names = sorted(os.listdir(directory))
            self.entries = {entry.name: entry for entry in scandir(directory)}

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            for name in self.names:
                if name != "b":
                    os.unlink(tmp_path / name)
                yield self.entries[name]

        def __exit__(self, *_: object) -> None: ...

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", Vanishing)
    assert 100_000 <= bytes_on_disk(tmp_path) < 200_000
