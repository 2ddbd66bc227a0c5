"""The dispatcher on a Ray, with runners that do as a test says."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import orjson
import pytest
import ray
from sqlalchemy import Connection

from raytes.attempt import Assignment, Update
from raytes.config import Settings
from raytes.dispatch import dispatcher
from raytes.dispatch.dispatcher import RUNNER_PREFIX, Dispatcher
from raytes.dispatch.shape import Shape
from raytes.models import TesState
from raytes.runner.actor import RunnerInfo
from raytes.store import changes
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
    """A runner that runs nothing and answers when it is told to."""

    def __init__(self, runner_id: str) -> None:
        self._runner_id = runner_id
        self._may_answer = asyncio.Event()

    async def describe(self) -> RunnerInfo:
        await self._may_answer.wait()
        node = ray.get_runtime_context().get_node_id()
        return RunnerInfo(self._runner_id, SHAPE.key(), node, "", "", None)

    async def run(self, assignment: Assignment) -> Update:
        return Update(assignment.task_id, assignment.attempt, 1, TesState.COMPLETE)

    async def answer(self) -> None:
        self._may_answer.set()


def test_a_runner_that_is_slow_to_answer_keeps_its_attempt(
    cluster: None, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dispatcher, "_RECONCILE_EVERY_S", 0.05)
    new = new_task(minimal_task())
    database.change(lambda c: changes.create(c, [new]))
    database.change(lambda c: changes.assign(c, new.id, "slow"))
    runner = ray.remote(Puppet).options(name=f"{RUNNER_PREFIX}slow", num_cpus=0).remote("slow")

    async def go() -> None:
        looks: asyncio.Queue[None] = asyncio.Queue()

        def submit(change: Callable[[Connection], T]) -> "asyncio.Future[T]":
            if change is changes.with_runner:
                looks.put_nowait(None)
            return asyncio.wrap_future(database.writer.submit(change))

        node = ray.get_runtime_context().get_node_id()
        one = Dispatcher(Settings(state_dir=tmp_path), "instance", "store", node, submit)
        await one.start([], database.change(changes.with_runner), restarted=True)
        for _ in range(5):
            await looks.get()
        await runner.answer.remote()
        while database.change(changes.with_runner):
            await looks.get()
        await one.stop()

    asyncio.run(asyncio.wait_for(go(), 30))
    document = orjson.loads(database.reader.get(new.id, View.FULL) or b"")
    assert document["state"] == "COMPLETE"
    assert len(document["logs"]) == 1
