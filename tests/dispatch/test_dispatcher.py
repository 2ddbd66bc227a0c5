"""The dispatcher on a Ray, with runners that do as a test says."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest
import ray
from ray.exceptions import ActorUnavailableError, RayActorError
from sqlalchemy import Connection, update

from raytes import ids
from raytes.config import Settings
from raytes.dispatch import calls, closures, dispatcher, upkeep
from raytes.dispatch.calls import kill_named
from raytes.dispatch.dispatcher import Dispatcher, pause_before
from raytes.dispatch.lanes import Lanes
from raytes.dispatch.leases import RUNNER_PREFIX
from raytes.dispatch.nodes import Nodes
from raytes.dispatch.shape import Shape
from raytes.models import TesState
from raytes.store import changes
from raytes.store.changes import Pool, Queued
from raytes.store.schema import documents
from raytes.views import View
from tests.dispatch.puppet import SHAPE, Puppet
from tests.store.conftest import Database, minimal_task, new_task

T = TypeVar("T")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


class Story:
    """A dispatcher over a database in which a task is with a puppet."""

    def __init__(self, database: Database, state_dir: Path) -> None:
        self.database = database
        self.task = task = self.create().id
        self.runner_id = runner = ids.mint()
        database.change(lambda c: changes.assign(c, task, runner))
        name = RUNNER_PREFIX + runner
        self.runner: Any = ray.remote(Puppet).options(name=name, num_cpus=1).remote(runner)
        self.settings = Settings(
            state_dir=state_dir, max_retries=0, infeasible_grace=0, idle_timeout=600
        )
        self.submitted: list[object] = []
        self.before_refusal: Callable[[], object] = str  # called when one is submitted

    def create(self) -> Queued:
        """A task in the database, of which the dispatcher isn't told."""
        new = replace(new_task(minimal_task()), shape=SHAPE.key())
        self.database.change(lambda c: changes.create(c, [new]))
        return Queued(new.id, Pool(new.owner, new.shape))

    async def start(self, drained: tuple[str, ...] = ()) -> None:
        """`drained`: the nodes where nothing was to run any more a while ago."""
        self.looks: asyncio.Queue[None] = asyncio.Queue()
        node = ray.get_runtime_context().get_node_id()
        self.dispatcher = Dispatcher(self.settings, "instance", "store", node, self._submit)
        running = self.database.change(changes.with_runner)
        await self.dispatcher.start(
            [], running, restarted=True, drained=dict.fromkeys(drained, 0.0)
        )

    def _submit(self, change: Callable[[Connection], T]) -> "asyncio.Future[T]":
        if change is changes.with_runner:
            self.looks.put_nowait(None)
        if isinstance(change, partial):
            self.submitted.append(change.func)
            if change.func is changes.refuse:
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


def test_a_runner_that_was_told_to_stop_takes_nothing_any_more(story: Story) -> None:
    async def go() -> None:
        await story.runner.told.remote(answer=True, end=False)
        await story.start()
        node = (await story.dispatcher.health(0)).nodes[0].node.id
        while not (await story.dispatcher.health(0)).nodes[0].tasks:
            await story.looks.get()
        story.dispatcher.drain(node, deadline=0)
        await story.runner.stopped.remote()
        story.dispatcher.undrain(node)
        await story.runner.told.remote(answer=True, end=True)
        while (await story.dispatcher.health(0)).nodes[0].runners:
            await story.looks.get()
        await story.until_ended()

    asyncio.run(asyncio.wait_for(go(), 60))


def test_a_runner_is_at_one_thing_after_a_restart_between_two(story: Story) -> None:
    """The store was killed when the second was on disk, and the end of the first was not."""
    second = story.database.create()
    story.database.change(lambda c: changes.assign(c, second, story.runner_id))

    async def go() -> int:
        await story.runner.told.remote(answer=True, end=False)
        await story.start()
        while not (await story.dispatcher.health(0)).nodes[0].tasks:
            await story.looks.get()
        for _ in range(5):
            await story.looks.get()
        await story.runner.told.remote(answer=True, end=True)
        most: int = await story.runner.most.remote()
        await story.until_ended()
        return most

    assert asyncio.run(asyncio.wait_for(go(), 60)) == 1
    for task in (story.task, second):
        assert b"COMPLETE" in (story.database.reader.get(task, View.MINIMAL) or b"")


def test_the_end_of_an_attempt_is_submitted_before_the_next_one_begins(story: Story) -> None:
    second = story.database.create()

    async def go() -> None:
        await story.runner.told.remote(answer=True, end=False)
        await story.start()
        while not (await story.dispatcher.health(0)).nodes[0].tasks:
            await story.looks.get()
        story.dispatcher.reserve(1)
        story.dispatcher.enqueue([Queued(second, Pool("", SHAPE.key()))])
        await story.runner.told.remote(answer=True, end=True)
        while b"COMPLETE" not in (story.database.reader.get(second, View.MINIMAL) or b""):
            await story.looks.get()
        await story.until_ended()

    asyncio.run(asyncio.wait_for(go(), 60))
    assert story.submitted.index(changes.end) < story.submitted.index(changes.assign)


def test_a_task_that_can_not_be_read_ends_and_its_runner_goes_on(story: Story) -> None:
    unreadable, other = story.create(), story.create()
    damaged = update(documents).where(documents.c.task_id == unreadable.id)
    story.database.change(lambda c: c.execute(damaged.values(document=b'{"executors": 1}')))

    async def go() -> int:
        await story.runner.told.remote(answer=True, end=True)
        await story.start()
        story.dispatcher.reserve(2)
        story.dispatcher.enqueue([unreadable, other])
        while b"COMPLETE" not in (story.database.reader.get(other.id, View.MINIMAL) or b""):
            await story.looks.get()
        waiting = (await story.dispatcher.health(0)).queued
        await story.until_ended()
        return waiting

    assert asyncio.run(asyncio.wait_for(go(), 60)) == 0
    ended = orjson.loads(story.database.reader.get(unreadable.id, View.FULL) or b"")
    assert ended["state"] == "SYSTEM_ERROR"
    [line] = ended["logs"][0]["system_logs"]
    assert "can't be read by raytes" in line
    assert "(executors: " in line


def test_an_attempt_that_can_not_be_read_after_a_restart_ends_and_its_runner_goes_on(
    story: Story,
) -> None:
    damaged = update(documents).where(documents.c.task_id == story.task)
    story.database.change(lambda c: c.execute(damaged.values(document=b'{"executors": 1}')))
    other = story.create()

    async def go() -> None:
        await story.runner.told.remote(answer=True, end=False)
        await story.start()
        await story.runner.canceled.remote()
        story.dispatcher.reserve(1)
        story.dispatcher.enqueue([other])
        while b"COMPLETE" not in (story.database.reader.get(other.id, View.MINIMAL) or b""):
            await story.looks.get()
        assert (await story.dispatcher.health(0)).nodes[0].runners == 1
        await story.runner.most.remote()
        ended = await story.until_ended()
        assert ended["state"] == "SYSTEM_ERROR"
        assert ended["logs"][0]["metadata"]["failure_reason"] == "internal_error"

    asyncio.run(asyncio.wait_for(go(), 60))


def test_an_attempt_that_had_ended_keeps_its_end_though_it_can_not_be_read_after_a_restart(
    story: Story,
) -> None:
    damaged = update(documents).where(documents.c.task_id == story.task)
    story.database.change(lambda c: c.execute(damaged.values(document=b'{"executors": 1}')))

    async def go() -> None:
        await story.runner.end.remote(state=TesState.COMPLETE)
        await story.start()
        while story.database.change(changes.with_runner):
            await story.looks.get()
        await story.dispatcher.stop()

    asyncio.run(asyncio.wait_for(go(), 60))
    ended = story.database.reader.get(story.task, View.MINIMAL)
    assert ended is not None
    assert b"COMPLETE" in ended


def test_a_runner_that_is_at_another_task_is_not_ended_for_an_attempt_that_nobody_sees_to(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[str] = []
    monkeypatch.setattr(dispatcher, "kill_named", killed.append)
    orphan = story.create().id

    async def go() -> None:
        await story.runner.told.remote(answer=True, end=False)
        await story.start()
        while not (await story.dispatcher.health(0)).nodes[0].tasks:
            await story.looks.get()
        story.database.change(lambda c: changes.assign(c, orphan, story.runner_id))
        while b"SYSTEM_ERROR" not in (story.database.reader.get(orphan, View.MINIMAL) or b""):
            await story.looks.get()
        await story.runner.told.remote(answer=True, end=True)
        assert (await story.until_ended())["state"] == "COMPLETE"

    asyncio.run(asyncio.wait_for(go(), 60))
    assert not killed


def test_a_cancel_while_a_runner_is_taken_up_reaches_it(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_RECONCILE_EVERY_S", 600)  # which would tell it too, later

    async def go() -> None:
        await story.start()
        _, running = story.database.change(lambda c: changes.cancel(c, story.task)) or (None, None)
        assert running is not None
        await story.dispatcher.cancel(running, patience_s=0)
        await story.runner.told.remote(answer=True, end=False)
        await story.runner.canceled.remote()
        await story.dispatcher.stop()

    asyncio.run(asyncio.wait_for(go(), 60))
    assert b"CANCELED" in (story.database.reader.get(story.task, View.MINIMAL) or b"")


def test_a_drain_that_was_due_while_the_store_was_down_reaches_a_runner(story: Story) -> None:
    async def go() -> None:
        await story.start(drained=(ray.get_runtime_context().get_node_id(),))
        await story.runner.told.remote(answer=True, end=False)
        await story.runner.stopped.remote()
        await story.runner.told.remote(answer=True, end=True)
        await story.until_ended()

    asyncio.run(asyncio.wait_for(go(), 60))


def test_a_runner_that_cannot_be_reached_when_it_is_told_to_stop_is_told_again(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop:
        """As the method of a runner: the first call doesn't get through."""

        def __init__(self, stop: Any) -> None:
            self._stop = stop
            self._calls = 0

        async def remote(self) -> None:
            self._calls += 1
            if self._calls == 1:
                raise ActorUnavailableError("the traffic is cut", None)
            await self._stop.remote()

    monkeypatch.setattr(calls, "_ASK_AGAIN_S", 0.0)
    monkeypatch.setattr(dispatcher.ray, "get_actor", lambda _: story.runner)
    stopped = story.runner.stopped
    monkeypatch.setattr(story.runner, "stop", Stop(story.runner.stop))

    async def go() -> None:
        await story.start(drained=(ray.get_runtime_context().get_node_id(),))
        await story.runner.told.remote(answer=True, end=False)
        await stopped.remote()
        await story.runner.told.remote(answer=True, end=True)
        await story.until_ended()

    asyncio.run(asyncio.wait_for(go(), 60))


def test_who_is_in_a_hurry_does_not_wait_for_what_runs(story: Story) -> None:
    story.settings = story.settings.model_copy(update={"drain_timeout": 3600.0})

    async def go() -> None:
        await story.runner.told.remote(answer=True, end=False)
        await story.start()
        while not await story.runner.most.remote():
            await story.looks.get()
        story.dispatcher.hurry()
        stopping = asyncio.create_task(story.dispatcher.stop())
        await story.runner.stopped.remote()
        await story.runner.told.remote(answer=True, end=True)
        await stopping

    asyncio.run(asyncio.wait_for(go(), 60))


def test_a_task_that_is_cancelled_before_its_retry_is_given_to_no_runner(story: Story) -> None:
    story.settings = story.settings.model_copy(update={"max_retries": 1, "retry_delay": 0.05})

    async def go() -> None:
        await story.runner.end.remote(state=TesState.SYSTEM_ERROR, retry=True)
        await story.start()
        while story.database.change(changes.with_runner):
            await story.looks.get()
        # Whatever the dispatcher has heard of it by now.
        state, _ = story.database.change(lambda c: changes.cancel(c, story.task)) or (None, None)
        assert state is TesState.QUEUED
        story.dispatcher.dequeue(story.task)
        for _ in range(5):
            await story.looks.get()
        await story.runner.end.remote(state=TesState.COMPLETE)
        story.dispatcher.reserve(1)
        next_task = story.create()
        story.dispatcher.enqueue([next_task])
        while b"COMPLETE" not in (story.database.reader.get(next_task.id, View.MINIMAL) or b""):
            await story.looks.get()
        await story.until_ended()

    asyncio.run(asyncio.wait_for(go(), 60))
    assert story.submitted.count(changes.assign) == 1


def test_an_attempt_that_nobody_sees_to_is_lost_and_its_runner_ended_first(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner couldn't be looked for at the start, and lives."""
    get_actor, failed = ray.get_actor, list[str]()

    def fail_once(name: str) -> Any:
        if not failed:
            failed.append(name)
            raise RuntimeError(name)
        return get_actor(name)

    def kill(name: str) -> None:
        story.submitted.append(name)
        kill_named(name)

    async def go() -> dict[str, Any]:
        monkeypatch.setattr(dispatcher.ray, "get_actor", fail_once)
        monkeypatch.setattr(dispatcher, "kill_named", kill)
        await story.start()
        return await story.until_ended()

    assert asyncio.run(asyncio.wait_for(go(), 60))["state"] == "SYSTEM_ERROR"
    [runner] = failed
    assert story.submitted.index(runner) < story.submitted.index(changes.lose)


def test_what_nobody_knows_of_is_found_and_put_right(
    story: Story, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A cancel that is in the database alone, a runner that nobody leases, a waiting task that is
    in no lane, a container without owner."""
    monkeypatch.setattr(upkeep, "_SWEEP_EVERY_S", 0.05)

    async def go() -> Mapping[str, int]:
        await story.runner.told.remote(answer=True, end=False)
        await story.start()
        while not await story.runner.most.remote():
            await story.looks.get()
        story.database.change(lambda c: changes.cancel(c, story.task))
        name = RUNNER_PREFIX + ids.mint()
        stranger: Any = ray.remote(Puppet).options(name=name, num_cpus=0).remote("stranger")
        story.dispatcher.reserve(1)
        forgotten = story.create()
        while b"COMPLETE" not in (story.database.reader.get(forgotten.id, View.MINIMAL) or b""):
            await story.looks.get()
        with pytest.raises(RayActorError):
            await stranger.stopped.remote()
        while "leftovers" not in (repaired := (await story.dispatcher.health(0)).repaired):
            await story.looks.get()
        assert (await story.until_ended())["state"] == "CANCELED"
        return repaired

    repaired = asyncio.run(asyncio.wait_for(go(), 60))
    assert repaired.keys() == {"cancels", "strangers", "forgotten", "leftovers"}
    assert "container c, which nobody owns" in caplog.text


def test_a_retry_is_wary_of_the_node_where_the_last_attempt_failed(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    wary: list[tuple[str, Shape, str]] = []
    monkeypatch.setattr(Lanes, "make_wary", lambda _, *whereof: wary.append(whereof))
    story.settings = story.settings.model_copy(update={"max_retries": 1, "retry_delay": 0.0})

    async def go() -> str:
        await story.runner.end.remote(state=TesState.SYSTEM_ERROR, retry=True)
        await story.start()
        while b"SYSTEM_ERROR" not in (story.database.reader.get(story.task, View.MINIMAL) or b""):
            await story.looks.get()
        await story.until_ended()
        return ray.get_runtime_context().get_node_id()

    node = asyncio.run(asyncio.wait_for(go(), 60))
    assert wary == [(story.task, SHAPE, node)]


@pytest.mark.parametrize("of_node", [True, False])
def test_only_what_is_its_own_fault_closes_a_node(
    story: Story,
    of_node: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(closures, "FAILED", 1)
    monkeypatch.setattr(closures, "AGAIN_S", 0.1)

    async def go() -> dict[str, Any]:
        await story.runner.end.remote(state=TesState.SYSTEM_ERROR, retry=True, of_node=of_node)
        await story.start()
        return await story.until_ended()

    assert asyncio.run(asyncio.wait_for(go(), 60))["state"] == "SYSTEM_ERROR"
    assert ("gets no tasks" in caplog.text) is of_node


def test_what_a_runner_left_that_was_killed_with_the_store_is_removed_before_the_next_attempt(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sweep(nodes: Nodes, node: str) -> bool:
        story.submitted.append(node)
        return True

    async def go() -> str:
        monkeypatch.setattr(Nodes, "sweep", sweep)
        ray.kill(story.runner)
        await story.start()
        await story.until_ended()
        return ray.get_runtime_context().get_node_id()

    node = asyncio.run(asyncio.wait_for(go(), 60))
    assert story.submitted.index(node) < story.submitted.index(changes.lose)


def test_the_pause_before_a_retry_is_doubled_up_to_a_bound() -> None:
    assert [pause_before(retry, 1.0) for retry in (1, 2, 3, 9, 10, 100)] == [1, 2, 4, 256, 300, 300]
    assert pause_before(5, 1000.0) == 1000
    assert pause_before(5000, 1.0) == 300
