"""Doing several blocking steps of an attempt at once, but not too many."""

import math
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Final, TypeVar

from raytes.errors import Canceled

_LOOK_AT_OUTER: Final = 0.1  # seconds; nobody can wait for two events

T = TypeVar("T")


def concurrently(
    items: Iterable[T],
    work: Callable[[T, threading.Event], None],
    stop: threading.Event,
    *,
    limit: int,
) -> None:
    """Does `work` for each item, `limit` of them at any moment.

    The first failure is raised as it is, after the work in flight has ended: the event that it
    was given is set by then, as it is when `stop` is.
    """
    own_stop = _Within(stop)
    with ThreadPoolExecutor(limit, thread_name_prefix="stage") as threads:
        running = [threads.submit(work, item, own_stop) for item in items]
        ended, unended = wait(running, return_when=FIRST_EXCEPTION)
        if unended:
            own_stop.set()
            threads.shutdown(wait=True, cancel_futures=True)
    failures = [error for one in running if one in ended and (error := _failure(one))]
    # What ended because of the stop that another's failure has set says nothing of its own.
    failures.sort(key=lambda error: isinstance(error, Canceled))
    if failures:
        raise failures[0]


class _Within(threading.Event):
    """An event that counts as set when another one is, too."""

    def __init__(self, outer: threading.Event) -> None:
        super().__init__()
        self._outer = outer

    def is_set(self) -> bool:
        return super().is_set() or self._outer.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not self.is_set() and (left := end - time.monotonic()) > 0:
            super().wait(min(left, _LOOK_AT_OUTER))
        return self.is_set()


def _failure(ended: Future[None]) -> BaseException | None:
    return None if ended.cancelled() else ended.exception()
