"""How many files the runners of a node move at once."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raytes.storage import Storage, slots
from raytes.storage.locks import opened_lock, try_lock
from raytes.storage.slots import Slots

from .faulty_proxy import FaultyProxy, faulty_proxy


class Counter:
    """Who is inside, and the most that ever were."""

    def __init__(self) -> None:
        self.inside = self.most = 0

    async def move(self, slots: Slots) -> None:
        async with slots.one():
            self.inside += 1
            self.most = max(self.most, self.inside)
            await asyncio.sleep(0.001)
            self.inside -= 1


def test_the_runners_of_a_node_together_keep_its_limit(tmp_path: Path) -> None:
    async def move() -> Counter:
        counter = Counter()
        runners = [Slots(tmp_path / "transfers", of_node=3) for _ in range(4)]
        await asyncio.gather(*(counter.move(runner) for runner in runners for _ in range(25)))
        return counter

    assert asyncio.run(move()).most == 3


def test_one_runner_leaves_slots_for_others(tmp_path: Path) -> None:
    async def move() -> Counter:
        counter, runner = Counter(), Slots(tmp_path, of_node=64)
        await asyncio.gather(*(counter.move(runner) for _ in range(100)))
        return counter

    assert asyncio.run(move()).most == 16


@pytest.mark.parametrize("handed_on", [0.0, 0.02])
def test_a_runner_with_many_files_does_not_keep_another_from_its_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handed_on: float
) -> None:
    monkeypatch.setattr(slots, "_HANDED_ON", handed_on)

    async def move() -> None:
        counter = Counter()
        greedy, modest = Slots(tmp_path, of_node=2), Slots(tmp_path, of_node=2)

        async def go_on() -> None:
            while True:
                await counter.move(greedy)

        many = [asyncio.create_task(go_on()) for _ in range(20)]
        await asyncio.sleep(0)
        await asyncio.wait_for(counter.move(modest), 30)
        for one in many:
            one.cancel()

    asyncio.run(move())


async def _cancel_the_second(runner: Slots, other: Slots) -> None:
    first_is_in, done = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with runner.one():
            first_is_in.set()
            await done.wait()

    holding = asyncio.create_task(first())
    await first_is_in.wait()
    waiting = asyncio.create_task(Counter().move(runner))
    await asyncio.sleep(0.001)
    done.set()
    waiting.cancel()
    await asyncio.gather(holding, waiting, return_exceptions=True)
    await asyncio.wait_for(Counter().move(other), 30)


async def _cancel_the_holder(runner: Slots, other: Slots) -> None:
    is_in = asyncio.Event()

    async def hold() -> None:
        async with runner.one():
            is_in.set()
            await asyncio.Event().wait()

    holding = asyncio.create_task(hold())
    await is_in.wait()
    holding.cancel()
    await asyncio.wait_for(Counter().move(other), 30)


@pytest.mark.parametrize("cancel", [_cancel_the_second, _cancel_the_holder])
def test_who_is_canceled_leaves_its_slot_to_others(
    tmp_path: Path, cancel: Callable[[Slots, Slots], Awaitable[None]]
) -> None:
    async def run() -> None:
        await cancel(Slots(tmp_path, of_node=1), Slots(tmp_path, of_node=1))

    descriptors = len(os.listdir("/proc/self/fd"))
    asyncio.run(run())
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_the_slots_of_a_runner_that_is_killed_are_free(tmp_path: Path) -> None:
    program = f"""
import asyncio
from pathlib import Path
from raytes.storage.slots import Slots

async def hold():
    async with Slots(Path({str(tmp_path)!r}), of_node=1).one():
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(hold())
"""
    runner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert runner.stdout
    assert runner.stdout.readline() == b"held\n"

    async def move() -> None:
        waiting = asyncio.create_task(Counter().move(Slots(tmp_path, of_node=1)))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        runner.kill()
        await asyncio.wait_for(waiting, 30)

    asyncio.run(move())
    runner.communicate()


@pytest.fixture
def server() -> Iterator[FaultyProxy]:
    with faulty_proxy() as server:
        yield server


def test_a_transfer_waits_for_a_slot_of_its_node(
    make_storage: Callable[..., Storage], server: FaultyProxy, tmp_path: Path
) -> None:
    server.files["/in"] = b"x"
    slot_is_free, fetched_with_a_slot = threading.Event(), []
    server.meeting = threading.Barrier(1, lambda: fetched_with_a_slot.append(slot_is_free.is_set()))
    storage = make_storage(schemes=["http"], storage={server.url: {}}, node_transfers=1)
    slots = tmp_path / "state/scratch/transfers"
    slots.mkdir(parents=True)

    def fetch() -> None:
        storage.fetch(f"{server.url}/in", None, tmp_path / "in", threading.Event())

    with ThreadPoolExecutor() as threads:
        with opened_lock(slots / "0") as slot:
            assert try_lock(slot)
            fetching = threads.submit(fetch)
            with pytest.raises(TimeoutError):
                fetching.result(timeout=0.3)
            slot_is_free.set()
        fetching.result(timeout=30)
    assert fetched_with_a_slot == [True]
