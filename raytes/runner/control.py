"""How an attempt is told to end before its time."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from raytes.errors import Canceled


class Control:
    """Shared by an attempt and those who may end it, each on a thread of its own."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        """Set when the attempt is to end, whatever it is doing."""
        self.canceled = False
        """Whether it was the user; else the service stops and runs the task again."""
        self._kill: Callable[[], None] | None = None
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """End the attempt because the user said so."""
        self._end(canceled=True)

    def shut_down(self) -> None:
        """End the attempt because the service stops."""
        self._end(canceled=False)

    def check(self) -> None:
        """Raise Canceled if the attempt is to end."""
        if self.stop.is_set():
            raise Canceled("the task was canceled" if self.canceled else "the service stops")

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
                self._kill = None

    def _end(self, canceled: bool) -> None:
        with self._lock:
            self.canceled = self.canceled or canceled
            self.stop.set()
            kill, self._kill = self._kill, None
        if kill:
            kill()
