"""A runner that does as a test says.

Apart from the tests, whose imports would double the time in which Ray starts one.
"""

import asyncio
from typing import Any

import ray

from raytes.attempt import Assignment, Update
from raytes.dispatch.shape import Shape
from raytes.models import TesState
from raytes.runner.actor import RunnerInfo

SHAPE = Shape(cpus=1, memory=1)


class Puppet:
    """A runner that runs nothing, and answers and ends attempts as it is told to."""

    def __init__(self, runner_id: str) -> None:
        self._runner_id = runner_id
        self._may_answer = asyncio.Event()
        self._may_end = asyncio.Event()
        self._stopped = asyncio.Event()
        self._canceled = asyncio.Event()
        self._cancels: set[tuple[str, int]] = set()
        self._at = 0
        self._most = 0
        self._ending: dict[str, Any] = {"state": TesState.COMPLETE}
        self._leftovers = ["container c, which nobody owns"]

    async def describe(self) -> RunnerInfo:
        await self._may_answer.wait()
        node = ray.get_runtime_context().get_node_id()
        return RunnerInfo(self._runner_id, SHAPE.key(), node, None)

    async def run(self, assignment: Assignment) -> Update:
        self._at += 1
        self._most = max(self._most, self._at)
        await self._may_end.wait()
        self._at -= 1
        key = (assignment.task_id, assignment.attempt)
        ending = {"state": TesState.CANCELED} if key in self._cancels else self._ending
        return Update(*key, 1, **ending)

    async def cancel(self, task_id: str, attempt: int) -> None:
        if not self._may_end.is_set():
            self._cancels.add((task_id, attempt))
        self._canceled.set()
        self._may_end.set()

    async def stop(self) -> None:
        self._stopped.set()

    async def stopped(self) -> None:
        """Wait until it was told to stop."""
        await self._stopped.wait()

    async def canceled(self) -> None:
        """Wait until it was told to cancel."""
        await self._canceled.wait()

    async def sweep(self) -> list[str]:
        """As the real one, this finds what is there, and so the next time nothing."""
        found, self._leftovers = self._leftovers, []
        return found

    async def most(self) -> int:
        """How many attempts it was at, at once."""
        return self._most

    async def end(self, **ending: Any) -> None:
        self._ending = ending
        await self.told(answer=True, end=True)

    async def told(self, *, answer: bool, end: bool) -> None:
        for may, event in ((answer, self._may_answer), (end, self._may_end)):
            if may:
                event.set()
            else:
                event.clear()
