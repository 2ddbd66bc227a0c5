"""The dispatcher on a Ray, with runners that do as a test says."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest
import ray
from sqlalchemy import Connection

from raytes import ids
from raytes.attempt import Assignment, Update
from raytes.config import Settings
from raytes.dispatch import dispatcher, upkeep
from raytes.dispatch.dispatcher import Dispatcher
from raytes.dispatch.leases import RUNNER_PREFIX
from raytes.dispatch.shape import Shape
from raytes.models import TesState
from raytes.runner.actor import RunnerInfo
from raytes.store import changes
from raytes.store.changes import Pool, Queued
from raytes.views import View
from tests.store.conftest import Database, minimal_task, new_task

T = TypeVar("T")
SHAPE = Shape(cpus=1, memory=1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "raytes.db")
    yield opened
    opened.close()


class Puppet:
    """A runner that runs nothing, and answers and ends attempts as it is told to."""

    def __init__(self, runner_id: str) -> None:
        self._runner_id = runner_id
        self._may_answer = asyncio.Event()
        self._may_end = asyncio.Event()

    async def describe(self) -> RunnerInfo:
        await self._may_answer.wait()
        node = ray.get_runtime_context().get_node_id()
        return RunnerInfo(self._runner_id, SHAPE.key(), node, "", "", None)

    async def run(self, assignment: Assignment) -> Update:
        await self._may_end.wait()
        return Update(assignment.task_id, assignment.attempt, 1, TesState.COMPLETE)

    async def stop(self) -> None:
        self._may_end.set()

    async def told(self, *, answer: bool, end: bool) -> None:
        for may, event in ((answer, self._may_answer), (end, self._may_end)):
            if may:
                event.set()
            else:
                event.clear()


class Story:
    """A dispatcher over a database in which a task is with a puppet."""

    def __init__(self, database: Database, state_dir: Path) -> None:
        self.database = database
        new = new_task(minimal_task())
        self.task = new.id
        database.change(lambda c: changes.create(c, [new]))
        runner = ids.mint()
        database.change(lambda c: changes.assign(c, new.id, runner))
        name = RUNNER_PREFIX + runner
        self.runner: Any = ray.remote(Puppet).options(name=name, num_cpus=0).remote(runner)
        self.settings = Settings(state_dir=state_dir, max_retries=0, infeasible_grace=0)
        self.before_refusal: Callable[[], object] = str  # called when one is submitted

    async def start(self) -> None:
        self.looks: asyncio.Queue[None] = asyncio.Queue()
        node = ray.get_runtime_context().get_node_id()
        self.dispatcher = Dispatcher(self.settings, "instance", "store", node, self._submit)
        running = self.database.change(changes.with_runner)
        await self.dispatcher.start([], running, restarted=True)

    def _submit(self, change: Callable[[Connection], T]) -> "asyncio.Future[T]":
        if change is changes.with_runner:
            self.looks.put_nowait(None)
        if isinstance(change, partial) and change.func is changes.refuse:
            self.before_refusal()
        return asyncio.wrap_future(self.database.writer.submit(change))

    async def until_ended(self) -> dict[str, Any]:
        """Wait for the end of the task, stop, and return the task."""
        while self.database.change(changes.with_runner):
            await self.looks.get()
        await self.dispatcher.stop()
        document: dict[str, Any] = orjson.loads(
            self.database.reader.get(self.task, View.FULL) or b""
        )
        return document


@pytest.fixture
def story(
    cluster: None, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Story:
    monkeypatch.setattr(upkeep, "_RECONCILE_EVERY_S", 0.05)
    return Story(database, tmp_path)


def test_a_runner_that_is_slow_to_answer_keeps_its_attempt(story: Story) -> None:
    async def go() -> dict[str, Any]:
        await story.start()
        for _ in range(5):
            await story.looks.get()
        await story.runner.told.remote(answer=True, end=True)
        return await story.until_ended()

    task = asyncio.run(asyncio.wait_for(go(), 60))
    assert task["state"] == "COMPLETE"
    assert len(task["logs"]) == 1


def test_a_runner_that_hangs_is_ended_and_its_attempt_is_lost(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_SILENT_S", 0.5)

    async def go() -> dict[str, Any]:
        await story.runner.told.remote(answer=True, end=False)
        await story.start()
        while not (await story.dispatcher.health(0)).nodes[0].tasks:
            await story.looks.get()
        await story.runner.told.remote(answer=False, end=False)
        task = await story.until_ended()
        assert (await story.dispatcher.health(0)).repaired["silent"] == 1
        return task

    task = asyncio.run(asyncio.wait_for(go(), 60))
    assert task["state"] == "SYSTEM_ERROR"
    assert task["logs"][0]["metadata"]["failure_reason"] == "runner_lost"


def test_what_happens_while_tasks_are_refused_is_not_forgotten(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "_NODES_EVERY_S", 0.05)
    refused, cancelled = story.database.create(), story.database.create()
    pools = {
        task: Pool("", Shape(cpus=n, memory=1).key()) for n, task in ((8, refused), (9, cancelled))
    }

    def meanwhile() -> None:
        """Another task is created, and the second is cancelled."""
        story.before_refusal = str
        assert story.dispatcher.reserve(1) is None
        story.database.writer.submit(partial(changes.cancel, task_id=cancelled))
        story.dispatcher.dequeue(cancelled)

    async def go() -> int:
        story.before_refusal = meanwhile
        await story.start()
        story.dispatcher.reserve(2)
        story.dispatcher.enqueue(Queued(task, pool) for task, pool in pools.items())
        while b"SYSTEM_ERROR" not in (story.database.reader.get(refused, View.MINIMAL) or b""):
            await story.looks.get()
        for _ in range(5):
            await story.looks.get()
        waiting = (await story.dispatcher.health(0)).queued
        await story.runner.told.remote(answer=True, end=True)
        await story.until_ended()
        return waiting

    assert asyncio.run(asyncio.wait_for(go(), 60)) == 1
