"""Fetching a large object in several ranges of bytes at the same time."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from raytes.storage.faults import Fault
from raytes.storage.objects import Object
from raytes.storage.parallel import in_parallel
from raytes.storage.progress import Transfer
from raytes.storage.retry import retrying

SIZE = 8 * 2**20
"""Bytes asked for at once; a larger object is fetched in several requests."""

PIECE = 2**20
"""Bytes written to disk at once."""

_AT_ONCE = 8

OpenRange = Callable[[int, int], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Asks for the bytes from the first number up to before the second, of the object's version."""


async def get_ranges(
    found: Object,
    destination: Path,
    transfer: Transfer,
    open_range: OpenRange,
    fault_of: Callable[[Exception], Fault],
) -> None:
    """Writes the object to `destination`.

    Raises:
        Fault: a range failed for good.
        OSError: the node's disk doesn't take it.
    """
    with destination.open("wb") as file:
        file.truncate(found.size)
        starts = range(0, found.size, SIZE)

        async def fetch(start: int) -> None:
            # Another attempt goes on where the one before it was cut off.
            position, end = start, min(start + SIZE, found.size)

            async def attempt() -> None:
                nonlocal position
                if position == end:
                    return  # it was cut off after the last byte
                async with open_range(position, end) as pieces:
                    async for piece in pieces:
                        if len(piece) > end - position:
                            raise Fault("the store sent more bytes than it was asked for")
                        _write(file.fileno(), piece, position)
                        position += len(piece)
                        transfer.moved(len(piece))
                if position != end:
                    early = f"the store's answer ended {end - position} bytes early"
                    raise Fault(early, passing=True)

            await retrying(attempt, fault_of)

        await in_parallel(starts, fetch, limit=min(_AT_ONCE, len(starts)))


def _write(file: int, data: bytes, position: int) -> None:
    # A disk that is nearly full takes a part; it says that it is full when it gets the rest.
    left = memoryview(data)
    while left:
        written = os.pwrite(file, left, position)
        left, position = left[written:], position + written
