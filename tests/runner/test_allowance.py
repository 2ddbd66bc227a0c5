import threading
import time
from pathlib import Path

import pytest

from raytes.errors import Canceled, DiskFull
from raytes.runner.allowance import bytes_on_disk, within_disk, within_time
from raytes.runner.control import Control

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
