"""What a task may use that the kernel doesn't watch over: time, and room on the disk."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from raytes.errors import Canceled, RaytesError
from raytes.runner.control import Control
from raytes.runner.scan import statuses_below
from raytes.runner.sweep import unshare

_LOOK_EVERY: Final = 0.25  # seconds
_REST: Final = 10  # times as long as it took to look; so it takes at most a tenth of a CPU
_BLOCK: Final = 512  # bytes, in st_blocks


@contextmanager
def within_time(seconds: float | None, control: Control, failure: RaytesError) -> Iterator[None]:
    """While in this block, let `control` fail when the time is up; None: never."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, control.fail, [failure])
    timer.daemon = True
    timer.start()
    try:
        with _failing(control):
            yield
    finally:
        timer.cancel()
        timer.join()
        control.recover()


@contextmanager
def within_disk(
    limit: int, occupied: Callable[[], Iterable[Path]], control: Control, failure: RaytesError
) -> Iterator[None]:
    """While in this block, let `control` fail when some directories hold too much.

    They are looked at now and then: what comes last is for `is_over` to find.

    Parameters:
        limit: bytes; 0: there is none.
        occupied: the directories, asked each time.
    """
    if not limit:
        yield
        return
    over = threading.Event()
    watch = threading.Thread(
        target=_watch, args=(limit, occupied, control, failure, over), name="disk", daemon=True
    )
    watch.start()
    try:
        with _failing(control):
            yield
    finally:
        over.set()
        watch.join()
        control.recover()


def is_over(limit: int, directories: Iterable[Path]) -> bool:
    """Whether some directories hold more than so many bytes; 0: there is no limit."""
    return bool(limit) and sum(map(bytes_on_disk, directories)) > limit


def bytes_on_disk(directory: Path) -> int:
    """What lies in a directory, as far as it may be looked at, in bytes of its disk."""
    closed = threading.Event()
    size = sum(status.st_blocks for status in statuses_below(directory, closed.set)) * _BLOCK
    if closed.is_set() and os.geteuid() != 0:  # rootless, a container's user may close what is its
        counted = unshare("du", "--summarize", "--block-size=1", "--", str(directory))
        size = max([size, *map(int, counted.split()[:1])])
    return size


def _watch(
    limit: int,
    occupied: Callable[[], Iterable[Path]],
    control: Control,
    failure: RaytesError,
    over: threading.Event,
) -> None:
    delay = 0.0
    while not over.wait(delay):
        start = time.monotonic()
        if is_over(limit, occupied()):
            control.fail(failure)
            return
        delay = max(_LOOK_EVERY, _REST * (time.monotonic() - start))


@contextmanager
def _failing(control: Control) -> Iterator[None]:
    """Raises the failure instead of what unwinds the attempt because of it."""
    try:
        yield
    except Canceled:
        if (failure := control.failure) is not None:
            raise failure from None
        raise
