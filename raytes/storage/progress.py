"""How far the transfers of one input or output have come, and saying so while they last."""

import time
from collections.abc import Callable
from typing import Final

_FIRST_AFTER: Final = 5.0
"""Seconds of a transfer that nobody needs to be told of."""

_SHARE: Final = 0.1
"""Of the time gone by, how much passes between two lines: a day's transfer shouldn't fill the
log."""

_LONGEST: Final = 300.0  # seconds between two lines

_UNITS: Final = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


class Progress:
    """What was moved of one input or output; `say` is called with a line now and then.

    The lines come from whoever moves the bytes: where nothing moves, nothing is said.
    """

    def __init__(
        self,
        what: str = "",
        say: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._say = say
        self._clock = clock
        self._start = self._last = clock()
        self._due = self._start + _FIRST_AFTER
        self._moved_at_last = 0
        self._said = False
        self.moved = 0
        """Bytes that went over the network, or from disk to disk."""
        self.files = 0
        """Files that are there."""
        self.cached = 0
        """How many of them the node had already."""
        self._expected_files = 0
        self._expected_bytes = 0

    def expect(self, files: int, size: int) -> None:
        """Tell how much there is to do, in files and bytes; what comes later is added."""
        self._expected_files += files
        self._expected_bytes += size

    def begin(self) -> "Transfer":
        """One file is about to be moved."""
        return Transfer(self)

    def add(self, count: int) -> None:
        """`count` bytes were moved, or, if it is negative, have to be moved again."""
        self.moved += count
        now = self._clock()
        if now < self._due:
            return
        rate = (self.moved - self._moved_at_last) / max(now - self._last, 0.001)
        self._say(f"{self._what}: {self._amount()}, {in_words(max(rate, 0))}/s")
        self._said = True
        self._last, self._moved_at_last = now, self.moved
        self._due = now + min(_LONGEST, max(_FIRST_AFTER, _SHARE * (now - self._start)))

    def end(self) -> None:
        """All is done; says so if anything was said before."""
        if not self._said:
            return
        seconds = max(self._clock() - self._start, 0.001)
        files = f"{self.files} file{'s' * (self.files != 1)}"
        self._say(
            f"{self._what}: done, {files}, {in_words(self.moved)} in {seconds:.0f} s, "
            f"{in_words(self.moved / seconds)}/s"
        )

    def _amount(self) -> str:
        moved = in_words(self.moved)
        if self._expected_bytes > 0:
            percent = min(100, 100 * self.moved // self._expected_bytes)
            moved += f" of {in_words(self._expected_bytes)} ({percent} %)"
        if self._expected_files > 1:
            moved += f", {self.files} of {self._expected_files} files"
        return moved


class Transfer:
    """One file on its way."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._moved = 0

    def moved(self, count: int) -> None:
        """`count` more bytes were moved."""
        self._moved += count
        self._progress.add(count)

    def at(self, position: int) -> None:
        """The first `position` bytes are moved by now."""
        self.moved(position - self._moved)

    def restart(self) -> None:
        """An attempt failed, and all its bytes have to be moved again."""
        if self._moved:
            self._progress.add(-self._moved)
        self._moved = 0

    def done(self, *, cached: bool = False) -> None:
        """The file is there; `cached`: because the node had it already."""
        self._progress.files += 1
        self._progress.cached += cached


def in_words(size: float) -> str:
    """A number of bytes for the eyes of people; GB = 10^9 bytes."""
    for unit, length in _UNITS:
        if size >= length:
            return f"{size / length:.1f} {unit}"
    return f"{size:.0f} byte{'s' * (round(size) != 1)}"
