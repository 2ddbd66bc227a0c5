"""Doing many transfers at once, but not too many."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


async def in_parallel(
    items: Iterable[T], work: Callable[[T], Awaitable[None]], *, limit: int
) -> None:
    """Does `work` for each item, `limit` of them at any moment.

    The first failure is raised as it is, after the work in flight has been cancelled.
    """
    remaining = iter(items)
    workers = [asyncio.create_task(_take_turns(remaining, work)) for _ in range(limit)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _take_turns(remaining: Iterator[T], work: Callable[[T], Awaitable[None]]) -> None:
    for item in remaining:
        await work(item)
