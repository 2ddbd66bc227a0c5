"""Trying again what failed for a cause that passes."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from raytes.storage.faults import Fault

ATTEMPTS = 5
"""How often one request is made before its fault is final."""

FIRST_DELAY = 0.5
"""Seconds before the second attempt, doubled for each that follows: 7.5 for all, less jitter."""

T = TypeVar("T")


async def retrying(
    request: Callable[[], Awaitable[T]], fault_of: Callable[[Exception], Fault]
) -> T:
    """What `request` returns, made again with backoff and jitter while its faults are passing.

    Raises:
        Fault: it failed for good, or for the last time.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await request()
        except Exception as error:
            fault = fault_of(error)
            if not fault.passing:
                raise fault from error
            if attempt == ATTEMPTS:
                raise Fault(f"{fault}, in {attempt} attempts", passing=True) from error
        # Jitter, so that a thousand tasks don't come back in the same moment.
        await asyncio.sleep(FIRST_DELAY * 2 ** (attempt - 1) * random.uniform(0.5, 1))  # noqa: S311
    raise AssertionError("unreachable: the last attempt returns or raises")
