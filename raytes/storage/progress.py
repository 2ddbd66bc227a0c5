"""How far the transfers of one input or output have come, and saying so while they last."""

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

_UNITS: Final = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


class Audience(Protocol):
    """Who is told of transfers that last."""

    def line(self, message: str) -> None:
        """Something for the log."""

    def transfer(self, how_far: str) -> None:
        """How far it has come by now, in place of what was said before; empty: it is over."""


class Nobody:
    """An audience that doesn't listen."""

    def line(self, message: str) -> None:
        """Nothing."""

    def transfer(self, how_far: str) -> None:
        """Nothing."""


class Pace:
    """How often something is said while a transfer lasts, in seconds.

    The longer it takes, the less often: a day's transfer shouldn't fill the log.
    """

    def __init__(self, first: float, share: float, longest: float) -> None:
        """First after `first` seconds, then again after `share` of the time gone by, but not
        before `first` and not after `longest` seconds.
        """
        self._first = first
        self._share = share
        self._longest = longest

    def after(self, elapsed: float) -> float:
        """How long to wait when something was said after `elapsed` seconds."""
        return min(self._longest, max(self._first, self._share * elapsed))


LINES = Pace(first=5, share=0.1, longest=300)
LIVE = Pace(first=2, share=0.02, longest=30)


class Progress:
    """What was moved of inputs or outputs, and telling an audience of it now and then.

    It comes from whoever moves the bytes: where nothing moves, nothing is said. It may be told
    of transfers in several threads.
    """

    def __init__(
        self,
        what: str = "",
        audience: Audience = Nobody(),  # noqa: B008 - it holds nothing
        clock: Callable[[], float] = time.monotonic,
        *,
        parts: int = 1,
    ) -> None:
        """`parts` is how often `expect` is going to be called: until then nobody knows how much
        there is to do.
        """
        self._what = what
        self._audience = audience
        self._clock = clock
        self._start = clock()
        self._lock = threading.Lock()
        self._to_log = _Teller(audience.line, LINES, self._start)
        self._to_watchers = _Teller(audience.transfer, LIVE, self._start)
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
            for teller in (self._to_log, self._to_watchers):
                teller.tell(now, self.moved, self._how_far)

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
        if self._to_watchers.has_told:
            self._audience.transfer("")
        if not self._to_log.has_told:
            return
        seconds = max(self._clock() - self._start, 0.001)
        files = f"{self.files} file{'s' * (self.files != 1)}"
        self._audience.line(
            f"{self._what}: done, {files}, {in_words(self.moved)} in {seconds:.0f} s, "
            f"{in_words(self.moved / seconds)}/s"
        )

    def _how_far(self, rate: float) -> str:
        return f"{self._what}: {self._amount()}, {in_words(rate)}/s"

    def _amount(self) -> str:
        moved = in_words(self.moved)
        if self._expected_bytes > 0 and self._unknown_parts <= 0:
            percent = min(100, 100 * self.moved // self._expected_bytes)
            moved += f" of {in_words(self._expected_bytes)} ({percent} %)"
        if self._expected_files > 1:
            moved += f", {self.files} of {self._expected_files} files"
        return moved


class _Teller:
    """Tells one kind of audience at its pace, with the rate since it was told before."""

    def __init__(self, tell: Callable[[str], None], pace: Pace, now: float) -> None:
        self._tell = tell
        self._pace = pace
        self._start = self._last = now
        self._due = now + pace.after(0)
        self._moved = 0
        self.has_told = False

    def tell(self, now: float, moved: int, words: Callable[[float], str]) -> None:
        """Say how far it is, if it is time; `words` puts it, given the bytes a second."""
        if now < self._due:
            return
        rate = (moved - self._moved) / max(now - self._last, 0.001)
        self._tell(words(max(rate, 0)))
        self.has_told = True
        self._last, self._moved = now, moved
        self._due = now + self._pace.after(now - self._start)


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
