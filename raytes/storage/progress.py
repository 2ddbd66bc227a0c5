"""How far the transfers of one input or output have come, and saying so while they last."""

import threading
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
    """What was moved of inputs or outputs; `say` is called with a line now and then.

    The lines come from whoever moves the bytes: where nothing moves, nothing is said. It may be
    told of transfers in several threads.
    """

    def __init__(
        self,
        what: str = "",
        say: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
        *,
        parts: int = 1,
    ) -> None:
        """`parts` is how often `expect` is going to be called: until then nobody knows how much
        there is to do.
        """
        self._what = what
        self._say = say
        self._clock = clock
        self._start = self._last = clock()
        self._due = self._start + _FIRST_AFTER
        self._lock = threading.Lock()
        self._moved_at_last = 0
        self._said = False
        self.moved = 0
        """Bytes that went over the network, or from disk to disk."""
        self.files = 0
        """Files that are there."""
        self.cached = 0
        """How many of them the node had already."""
        self.cached_bytes = 0
        self._unknown_parts = parts
        self._expected_files = 0
        self._expected_bytes = 0

    def expect(self, files: int, size: int | None) -> None:
        """Tell how much there is to do of one part, in files and in bytes if they are known."""
        with self._lock:
            self._expected_files += files
            if size is not None:
                self._unknown_parts -= 1
                self._expected_bytes += size

    def begin(self) -> "Transfer":
        """One file is about to be moved."""
        return Transfer(self)

    def add(self, count: int) -> None:
        """`count` bytes were moved, or, if it is negative, have to be moved again."""
        with self._lock:
            self.moved += count
            now = self._clock()
            if now >= self._due:
                self._say_how_far(now)

    def count_cached(self, size: int) -> None:
        """One of the files needn't be moved, with its bytes that were expected."""
        with self._lock:
            self.cached += 1
            self.cached_bytes += size
            self._expected_bytes -= size

    def count_file(self) -> None:
        """One more file is there."""
        with self._lock:
            self.files += 1

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

    def _say_how_far(self, now: float) -> None:
        rate = (self.moved - self._moved_at_last) / max(now - self._last, 0.001)
        self._say(f"{self._what}: {self._amount()}, {in_words(max(rate, 0))}/s")
        self._said = True
        self._last, self._moved_at_last = now, self.moved
        self._due = now + min(_LONGEST, max(_FIRST_AFTER, _SHARE * (now - self._start)))

    def _amount(self) -> str:
        moved = in_words(self.moved)
        if self._expected_bytes > 0 and self._unknown_parts <= 0:
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

    def cached(self, size: int) -> None:
        """The node had all of its bytes already."""
        self._progress.count_cached(size)

    def done(self) -> None:
        """The file is there."""
        self._progress.count_file()


def in_words(size: float) -> str:
    """A number of bytes for the eyes of people; GB = 10^9 bytes."""
    for unit, length in _UNITS:
        if size >= length:
            return f"{size / length:.1f} {unit}"
    return f"{size:.0f} byte{'s' * (round(size) != 1)}"
