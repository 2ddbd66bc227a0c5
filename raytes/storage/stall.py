"""Noticing that a server has stopped in the middle of its work."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StallWatch:
    """Watches one connection, on which several things may be under way."""

    def __init__(self, patience: float, give_up: Callable[[], None]) -> None:
        """`give_up` is called, once, when something is under way and the server has given no
        sign of life for `patience` seconds.
        """
        self._patience = patience
        self._give_up = give_up
        self._under_way = 0
        self._seen = 0.0  # by the loop's clock
        self._timer: asyncio.TimerHandle | None = None
        self.stalled = False

    def sign(self) -> None:
        """The server has done something."""
        self._seen = asyncio.get_running_loop().time()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The server is owed an answer while this lasts."""
        if not self._under_way:
            self.sign()
            self._look_after(self._patience)
        self._under_way += 1
        try:
            yield
        finally:
            self.sign()
            self._under_way -= 1
            if not self._under_way and self._timer:
                self._timer.cancel()

    def _look_after(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        left = self._seen + self._patience - asyncio.get_running_loop().time()
        if left > 0:
            self._look_after(left)
        else:
            self.stalled = True
            self._give_up()
