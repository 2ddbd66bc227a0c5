"""How an attempt is told to end before its time."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from raytes.errors import Canceled, RaytesError


class Control:
    """Shared by an attempt and those who may end it, each on a thread of its own."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        """Set when what the attempt is at is to end."""
        self.canceled = False
        """Whether the user said so."""
        self._ordered = False  # by the user or the service: the attempt as a whole is to end
        self._failure: RaytesError | None = None
        self._kill: Callable[[], None] = _nothing
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """End the attempt because the user said so."""
        with self._lock:
            self.canceled = self._ordered = True
            kill = self._stop()
        kill()

    def shut_down(self) -> None:
        """End the attempt because the service stops; it is run again."""
        with self._lock:
            self._ordered = True
            kill = self._stop()
        kill()

    def fail(self, failure: RaytesError) -> None:
        """End what the attempt is at because the task has used up what it is allowed."""
        with self._lock:
            self._failure = self._failure or failure
            kill = self._stop()
        kill()

    @property
    def failure(self) -> RaytesError | None:
        """What it was told to end for by `fail`, and by nobody else."""
        return None if self._ordered else self._failure

    def recover(self) -> None:
        """After a failure: go on with what is left to do, like storing outputs."""
        with self._lock:
            self._failure = None
            if not self._ordered:
                self.stop.clear()

    def check(self) -> None:
        """Raise Canceled if what the attempt is at is to end."""
        if self.stop.is_set():
            raise Canceled("the task was canceled" if self.canceled else "the attempt is to end")

    @contextmanager
    def killing(self, kill: Callable[[], None]) -> Iterator[None]:
        """While in this block, `kill` is called once when the attempt is told to end."""
        with self._lock:
            self.check()
            self._kill = kill
        try:
            yield
        finally:
            with self._lock:
                self._kill = _nothing

    def _stop(self) -> Callable[[], None]:
        """Have everything end that looks at `stop`; returns what ends the rest."""
        self.stop.set()
        kill, self._kill = self._kill, _nothing
        return kill


def _nothing() -> None:
    """There is nothing to kill."""
