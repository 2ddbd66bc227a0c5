"""From a runner's thread into the event loop in which fsspec's coroutines live, and back."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from fsspec.asyn import get_loop

from raytes.errors import Canceled

_LOOK_AT_STOP = 0.1  # seconds
_CLEAN_UP = 0.5
"""Seconds that a cancelled transfer is given to tell its store; it goes on after them."""

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T], stop: threading.Event) -> T:
    """What `work` returns, awaited in fsspec's loop.

    Raises:
        Canceled: `stop` was set before it was done.
    """
    ended = threading.Event()
    future = asyncio.run_coroutine_threadsafe(_announcing(work, ended), get_loop())
    while not concurrent.futures.wait([future], timeout=_LOOK_AT_STOP).done:
        if stop.is_set():
            future.cancel()
            ended.wait(_CLEAN_UP)
            raise Canceled("canceled while data was being transferred")
    return future.result()


async def _announcing(work: Coroutine[Any, Any, T], ended: threading.Event) -> T:
    try:
        return await work
    finally:
        ended.set()


def begin(work: Coroutine[Any, Any, None]) -> concurrent.futures.Future[None]:
    """Has `work` done in fsspec's loop, without waiting for it."""
    return asyncio.run_coroutine_threadsafe(work, get_loop())
