"""Doing many transfers at once, but not too many."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def in_parallel(
    items: Iterable[T], work: Callable[[T], Awaitable[None]], *, limit: int
) -> None:
    """Does `work` for each item, `limit` of them at any moment.

    The first failure is raised as it is, after the work in flight has been cancelled.
    """
    remaining = deque(items)

    async def take_turns() -> None:
        while remaining:
            await work(remaining.popleft())

    workers = [asyncio.create_task(take_turns()) for _ in range(limit)]
    try:
        await asyncio.gather(*workers)
    finally:
        remaining.clear()  # some work ends well though it is cancelled
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
