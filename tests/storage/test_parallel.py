"""Many transfers at once."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from raytes.storage.parallel import in_parallel
from raytes.storage.slots import Slots


def test_after_a_failure_nothing_more_is_begun_though_some_do_not_heed_their_end() -> None:
    begun: list[int] = []

    async def work(item: int) -> None:
        begun.append(item)
        if item == 3:
            raise ValueError(item)
        if item < 3:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    with pytest.raises(ValueError, match="3"):
        asyncio.run(in_parallel(range(20), work, limit=4))
    assert begun == [0, 1, 2, 3]


def test_after_a_failure_no_file_gets_a_slot_any_more(tmp_path: Path) -> None:
    slots, moved = Slots(tmp_path, of_node=4), 0

    async def move(item: int) -> None:
        nonlocal moved
        async with slots.one():
            moved += 1
            await asyncio.sleep(0.001)
            if item == 12:
                raise ValueError(item)

    with pytest.raises(ValueError, match="12"):
        asyncio.run(in_parallel(range(200), move, limit=16))
    assert moved <= 12 + 16
