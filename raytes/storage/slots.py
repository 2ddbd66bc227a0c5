"""How many files are moved at once: by one runner, and by all runners of a node together.

A runner is a process of its own, and nobody stands above those of a node. So a slot of the node
is a lock file: the kernel frees it when its runner dies, and an idle node keeps nothing running.
Whoever wants a slot first takes the turn, which is a lock file too, and has it until there is a
slot: so that a runner with two thousand files doesn't take every slot again that it gives back.
A runner hands its slots on from file to file for a moment before it takes its turn again, because
a turn that has to be waited for can take longer than a small file.

A slot is the last thing that a transfer waits for (an entry of the cache is locked before), and
who has one waits for nobody: that can't lock up.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from raytes.storage.locks import open_lock, opened_lock, try_lock

_OF_ONE_RUNNER = 16  # files at once
_LOOK = 0.02
"""Seconds between two looks at a lock: to wait for it in the kernel would block a thread."""

_HANDED_ON = 0.5  # seconds that a runner keeps a slot from file to file


@dataclass(frozen=True, slots=True)
class _Slot:
    """A lock that is held."""

    number: int
    descriptor: int
    until: float  # it may be handed on, by time.monotonic


class Slots:
    """The leave to move a file."""

    def __init__(self, directory: Path, of_node: int) -> None:
        """`of_node` is how many files all runners with this directory move at once."""
        self._directory = directory
        self._numbers = list(range(of_node))  # not ours; likely to be free towards the end
        self._of_runner = asyncio.Semaphore(_OF_ONE_RUNNER)
        self._asking = asyncio.Lock()
        self._wanted = 0
        self._handed_on: list[_Slot] = []
        self._given = asyncio.Event()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Has a slot in this block, after waiting for one.

        Raises:
            OSError: the lock files can't be made.
        """
        async with self._of_runner:
            slot = await self._take()
            try:
                yield
            finally:
                self._give(slot)

    async def _take(self) -> _Slot:
        self._wanted += 1
        try:
            async with self._asking:
                return await self._ask()
        finally:
            self._wanted -= 1
            self._free_unwanted()

    async def _ask(self) -> _Slot:
        if self._handed_on:
            return self._handed_on.pop()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with opened_lock(self._directory / "turn") as turn:
            while not self._handed_on:
                if try_lock(turn) and (slot := self._free_slot()) is not None:
                    return slot
                self._given.clear()
                # Not wait_for: of Python 3.11 it loses a cancellation in the moment of the event.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK):
                        await self._given.wait()
            return self._handed_on.pop()

    def _free_slot(self) -> _Slot | None:
        for number in reversed(self._numbers):
            descriptor = open_lock(self._directory / str(number))
            if try_lock(descriptor):
                self._numbers.remove(number)
                return _Slot(number, descriptor, time.monotonic() + _HANDED_ON)
            os.close(descriptor)
        return None

    def _give(self, slot: _Slot) -> None:
        if time.monotonic() < slot.until:
            self._handed_on.append(slot)
            self._given.set()
            self._free_unwanted()
        else:
            self._free(slot)

    def _free_unwanted(self) -> None:
        while len(self._handed_on) > self._wanted:
            self._free(self._handed_on.pop())

    def _free(self, slot: _Slot) -> None:
        os.close(slot.descriptor)
        self._numbers.append(slot.number)
