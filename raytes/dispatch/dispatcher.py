"""The dispatcher: carries out what the lanes' policy says, with Ray.

It lives inside the store actor, in its event loop. Each runner has one coroutine here
(`_drive`) from the moment Ray is asked for it until it is gone; the call into the runner
that runs a task fails when the runner or its node dies, so nothing has to be polled.
"""

import asyncio
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import ray
from ray.exceptions import RayError
from sqlalchemy import Connection

from raytes import ids
from raytes.attempt import Assignment, Update
from raytes.config import Settings
from raytes.dispatch.backlog import WINDOW, Backlog
from raytes.dispatch.calls import answer, insist, kill_named
from raytes.dispatch.fencing import Fencing
from raytes.dispatch.health import Health, NodeHealth
from raytes.dispatch.lanes import Lanes
from raytes.dispatch.leases import RUNNER_PREFIX, Lease
from raytes.dispatch.losses import NO_OWNER, STOPPED, UNREADABLE, runner_lost
from raytes.dispatch.nodes import Nodes
from raytes.dispatch.pauses import growing_pause
from raytes.dispatch.shape import Node, Shape, with_disk
from raytes.dispatch.upkeep import Upkeep
from raytes.failures import FailureReason
from raytes.models import TesState, TesTask
from raytes.runner.actor import AttemptKey, Runner
from raytes.store import changes
from raytes.store.changes import Ended, Loss, Pool, Queued, Running
from raytes.store.database import DatabaseUnavailable
from raytes.store.documents import UnreadableDocument

T = TypeVar("T")

_NODES_EVERY_S = 2.0
_STRANDED_AFTER_S = 10.0
_LONGEST_PAUSE_UP_S = 30.0  # after a runner that died before it was up
_ANSWER_TIMEOUT_S = 30.0
_DATABASE_RETRY_S = 0.5
_LONGEST_PAUSE_S = 300.0  # before a retry; a task may ask for a hundred of them

logger = logging.getLogger(__name__)


class Submit(Protocol):
    """How the dispatcher has the store's writer make a change."""

    def __call__(self, change: Callable[[Connection], T]) -> "asyncio.Future[T]": ...


class Dispatcher:
    """Leases runners of Ray and gives them tasks.

    `runner` is the class of their actors.
    """

    def __init__(
        self,
        settings: Settings,
        instance: str,
        store_name: str,
        serving_node: str,
        submit: Submit,
        runner: type = Runner,
    ) -> None:
        self._settings = settings
        self._instance = instance
        self._store_name = store_name
        self._serving_node = serving_node
        self._submit = submit
        # Made once: Ray exports what it is given to the cluster anew each time it is made.
        self._runner: Any = ray.remote(runner)
        self._lanes = Lanes(
            slice_s=settings.lane_slice,
            idle_timeout_s=settings.idle_timeout,
            max_pending=settings.max_pending_runners,
            clock=time.monotonic,
        )
        self._nodes = Nodes(settings, instance, serving_node, self._nodes_changed)
        self._leases: dict[str, Lease] = {}
        self._backlog = Backlog()
        self._ended: dict[str, asyncio.Event] = {}
        self._disk_declared = False
        self._replan = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self._taking_up: list[asyncio.Task[None]] = []
        self._never_up = 0  # runners that died before they were up, since one was
        # Attempts that no lease has: a runner is asked about them, or their end is written.
        self._in_hand: set[AttemptKey] = set()
        self._settled = asyncio.Event()
        self._stopping = False
        self._hurry = asyncio.Event()  # what still runs is to be given back
        self._retrying: set[str] = set()  # tasks that are enqueued again in a while
        self._fencing = Fencing(self._nodes.fence_off, self._persist)
        self._drains: dict[str, asyncio.Task[None]] = {}
        self._upkeep = Upkeep(
            self._leases,
            self._backlog,
            self._in_hand,
            self._retrying,
            self._nodes,
            self._persist,
            spawn=self._spawn,
            try_again=lambda task: self._spawn(self._lost(task, NO_OWNER, node="")),
            enqueue=self.enqueue,
        )

    # --- for the store ----------------------------------------------------------------

    async def start(
        self,
        waiting: list[tuple[Pool, int]],
        running: list[Running],
        *,
        restarted: bool,
        drained: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Take up the tasks that aren't finished, and go on draining nodes (`drain`).

        `restarted`: only the store was, so that runners may live on; else whatever ran
        was stopped with the service, which costs a task none of its retries.
        """
        await self._nodes.refresh()
        for node, deadline in drained.items():
            self.drain(node, deadline)
        self._nodes_changed()
        self._see_nodes()
        at_work = {RUNNER_PREFIX + task.runner for task in running}
        for name in await asyncio.to_thread(ray.util.list_named_actors):
            # One that is idle, or not up yet, isn't worth the wait for its answer.
            if name.startswith(RUNNER_PREFIX) and name not in at_work:
                await asyncio.to_thread(kill_named, name)
        by_runner: defaultdict[str, list[Running]] = defaultdict(list)
        for task in running:
            by_runner[task.runner].append(task)
        self._taking_up = [
            self._spawn(self._take_up(runner_id, tasks, NO_OWNER if restarted else STOPPED))
            for runner_id, tasks in by_runner.items()
        ]
        self._backlog.begin(waiting)
        self._refill()
        self._spawn(self._for_ever(self._plan_on_events()))
        self._spawn(self._for_ever(self._watch_nodes()))
        self._spawn(self._for_ever(self._upkeep.reconcile()))
        self._spawn(self._for_ever(self._upkeep.sweep_nodes()))
        self._spawn(self._for_ever(self._fencing.what_is_left()))

    async def taken_up(self) -> None:
        """Returns when it is known what became of all that ran at the start."""
        if self._taking_up:
            await asyncio.wait(self._taking_up)

    def reserve(self, tasks: int) -> int | None:
        """Count tasks that are about to be stored as waiting; for how many of them there is
        room, None: for all. Those that aren't stored then are `unreserve`d."""
        most, before = self._settings.max_queued, self._backlog.count
        self._backlog.count += tasks
        return None if most is None or before + tasks <= most else max(0, most - before)

    def unreserve(self, tasks: int) -> None:
        """Tasks that were reserved and aren't stored, or had been before."""
        self._backlog.count -= tasks

    def enqueue(self, tasks: Iterable[Queued]) -> None:
        """Tasks that wait for a runner. One that is known already is left as it is."""
        at_work = {lease.task[0] for lease in self._leases.values() if lease.task}
        self._into_lanes(self._backlog.admit(task for task in tasks if task.id not in at_work))

    def dequeue(self, task_id: str) -> None:
        """A queued task was cancelled."""
        self._spawn(self._fencing.fence_off(task_id))
        self._backlog.count -= 1
        self._retrying.discard(task_id)
        if task := self._backlog.release(task_id):
            self._lanes.remove(task_id, Shape.from_key(task.pool.shape))
            self._refill()
            self._replan.set()

    async def cancel(self, running: Running, patience_s: float) -> None:
        """Have a runner cancel its attempt, and wait until it has ended, for so long."""
        ended = self._ended.setdefault(running.id, asyncio.Event())
        if lease := self._leases.get(running.runner):
            lease.actor.cancel.remote(running.id, running.attempt)
        try:
            await asyncio.wait_for(ended.wait(), patience_s)
        except TimeoutError:
            logger.info("task %s is still being cancelled", running.id)
        finally:
            self._ended.pop(running.id, None)

    async def health(self, patience_s: float) -> Health:
        """How the tasks and nodes are; waits so long at most for the first look at a node."""
        self._see_nodes()
        await self._nodes.first_looks(patience_s)
        leases = list(self._leases.values())
        nodes = (
            NodeHealth(
                node,
                self._nodes.condition(node.id),
                runners=sum(lease.node == node.id for lease in leases),
                tasks=sum(lease.node == node.id and lease.task is not None for lease in leases),
            )
            for node in self._nodes.living()
        )
        return Health(self._backlog.count, tuple(nodes), dict(+self._upkeep.repaired))

    def find_node(self, name: str) -> Node:
        """The node that somebody means.

        Raises:
            UnknownNode: there is none, or more than one.
        """
        return self._nodes.find(name)

    def drain(self, node: str, deadline: float) -> None:
        """Begin no more tasks on a node, and give back those that still run there at
        `deadline`, in seconds since the epoch."""
        self.undrain(node)
        self._nodes.closures.drain(node)
        self._nodes_changed()
        self._drains[node] = self._spawn(self._give_back(node, deadline))

    def undrain(self, node: str) -> None:
        """Begin tasks on a node again."""
        if drain := self._drains.pop(node, None):
            drain.cancel()
        self._nodes.closures.undrain(node)
        self._nodes_changed()

    async def stop(self) -> None:
        """Begin no more tasks, give those that run `drain_timeout` to end, or until `hurry`,
        give back the rest, and end all runners."""
        self._stopping = True
        for lease in list(self._leases.values()):
            if not lease.busy:
                self._release(lease)
        if not self._hurry.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_ended(), self._settings.drain_timeout)
        self._hurry.set()
        for lease in self._leases.values():
            self._end(lease)
        await self._all_ended()
        for task in self._background:
            task.cancel()

    def hurry(self) -> None:
        """Let nothing that runs end by itself any more: `stop` waits no longer."""
        self._hurry.set()
        self._settled.set()

    async def _all_ended(self) -> None:
        hurried = self._hurry.is_set()
        while (self._in_hand or self._leases) and self._hurry.is_set() == hurried:
            self._settled.clear()
            await self._settled.wait()

    async def _give_back(self, node: str, deadline: float) -> None:
        await asyncio.sleep(max(0.0, deadline - time.time()))
        for lease in self._leases.values():
            if lease.node == node and lease.busy:
                self._end(lease)

    def _end(self, lease: Lease) -> None:
        """Have a runner give back what it is at, after which it takes nothing any more."""
        lease.ending = True
        self._spawn(self._tell_to_stop(lease))

    async def _tell_to_stop(self, lease: Lease) -> None:
        with suppress(RayError):  # it is gone
            await insist(lease.actor, lease.actor.stop.remote)

    # --- runners ----------------------------------------------------------------------

    def _request(self, shape: Shape) -> None:
        runner_id = ids.mint()
        without = self._lanes.without(shape)
        options = shape.actor_options(
            serving_node=self._serving_node, disk_declared=self._disk_declared, without=without
        )
        actor = self._runner.options(
            name=RUNNER_PREFIX + runner_id, lifetime="detached", **options
        ).remote(self._settings, self._instance, runner_id, self._store_name, shape.key())
        lease = Lease(runner_id, actor)
        self._leases[runner_id] = lease
        self._lanes.asked(runner_id, shape, without)
        self._begin(lease, [])

    async def _take_up(self, runner_id: str, tasks: list[Running], otherwise: Loss) -> None:
        """Go on with a runner that outlived the store; without it, its attempts are lost.

        There is more than one if the store was killed when the next was on disk and the end
        of the last was not.
        """
        name, keys = RUNNER_PREFIX + runner_id, {_key(task) for task in tasks}
        self._in_hand.update(keys)
        try:
            actor: Any = await asyncio.to_thread(ray.get_actor, name)
            info = await asyncio.wait_for(answer(actor.describe.remote()), _ANSWER_TIMEOUT_S)
        except (RayError, ValueError, TimeoutError):
            await asyncio.gather(*(self._lost(task, otherwise, node="") for task in tasks))
            return
        except BaseException:
            self._in_hand.difference_update(keys)  # the reconciler finds that nobody has them
            raise
        shape = Shape.from_key(info.shape)
        lease = Lease(runner_id, actor, busy=True, node=info.node_id)
        self._leases[lease.id] = lease
        self._nodes.trust(info.node_id)
        self._lanes.asked(lease.id, shape)
        self._lanes.up(lease.id, info.node_id)
        self._lanes.busy(lease.id)
        # What it is at comes last: the ends of the others are there already.
        self._begin(lease, sorted(tasks, key=lambda task: _key(task) != info.current))

    def _begin(self, lease: Lease, resumed: list[Running]) -> None:
        lease.drive = self._spawn(self._drive(lease, resumed))
        # One that is cancelled before its first step comes to no end of its own.
        lease.drive.add_done_callback(lambda _: self._forget(lease))

    async def _drive(self, lease: Lease, resumed: list[Running]) -> None:
        """One runner's life: up, task after task, gone. It begins with what it had before a
        restart, the last of `resumed` first."""
        try:
            if not lease.node:
                lease.node = (await insist(lease.actor, lease.actor.describe.remote)).node_id
                self._lanes.up(lease.id, lease.node)
                self._never_up = 0
            while resumed:
                await self._resume(lease, resumed.pop())
            lease.busy = False
            while not (self._stopping or lease.ending):
                task_id = self._lanes.take(lease.id)
                if task_id is not None:
                    lease.busy = True
                    await self._run(lease, task_id)
                    lease.busy = False
                else:
                    self._replan.set()
                    await lease.work.wait()
                    lease.work.clear()
        except Exception as error:
            # Its death, as a rule; whatever else it may be, the task must not wait for it.
            logger.warning("runner %s is gone: %s", lease.id, error)
            if lease.task is not None:
                resumed.append(Running(*lease.task, runner=lease.id))
            for task in resumed:
                self._spawn(self._lost(task, None, lease.node))
            if not lease.node:
                # The next would fare no better, and none is asked for while this one is awaited.
                self._never_up += 1
                await asyncio.sleep(growing_pause(self._never_up, 1.0, 1 + _LONGEST_PAUSE_UP_S) - 1)
        finally:
            self._forget(lease)

    async def _run(self, lease: Lease, task_id: str) -> None:
        """Begin an attempt and see it to its end."""
        self._backlog.release(task_id)
        self._refill()
        try:
            assignment = await self._persist(
                partial(changes.assign, task_id=task_id, runner=lease.id)
            )
        except UnreadableDocument as error:
            await self._refuse([task_id], "internal_error", str(error))
            return
        if assignment is None:  # cancelled just now
            return
        self._backlog.count -= 1
        lease.task = (task_id, assignment.attempt)
        # Asked again, a runner waits for the same end.
        last = await insist(lease.actor, partial(lease.actor.run.remote, assignment))
        self._finish(lease, last)

    async def _resume(self, lease: Lease, task: Running) -> None:
        """Take up an attempt that the runner was given before the store restarted.

        Asking again is harmless: a runner knows what it is at and what it has finished.
        """
        lease.task = _key(task)
        self._in_hand.discard(lease.task)
        # Whoever cancelled it, or drained the node, while the runner was asked found no lease.
        resume = partial(changes.resume, task_id=task.id, attempt=task.attempt)
        try:
            assignment, canceling = await self._persist(resume)
        except UnreadableDocument:
            await self._resign(lease, task)
            return
        if canceling:
            lease.actor.cancel.remote(task.id, task.attempt)
        drain = self._drains.get(lease.node)
        if self._hurry.is_set() or (drain is not None and drain.done()):
            self._end(lease)
        self._finish(lease, await insist(lease.actor, partial(lease.actor.run.remote, assignment)))

    async def _resign(self, lease: Lease, task: Running) -> None:
        """Have a runner cancel an attempt of which this release can't read the document, and
        end it; one that had come to its end already ends as it did."""
        await insist(lease.actor, partial(lease.actor.cancel.remote, task.id, task.attempt))
        # A runner that is at it knows the document; one that never heard of it begins nothing.
        unread = Assignment(task.id, task.attempt, TesTask(executors=[]))
        last = await insist(lease.actor, partial(lease.actor.run.remote, unread))
        if last.state is not TesState.CANCELED:
            self._finish(lease, last)
            return
        lease.task = None
        self._in_hand.add(_key(task))
        lose = partial(changes.lose, task=task, loss=UNREADABLE, settings=self._settings)
        self._spawn(self._settle(_key(task), lose, lease.node))

    def _finish(self, lease: Lease, last: Update) -> None:
        """An attempt has ended. What the runner does next need not wait until that is on
        disk: both will be in one transaction."""
        lease.task = None
        key = (last.task_id, last.attempt)
        self._in_hand.add(key)
        if last.of_node:
            self._failed_on(lease.node)
        elif last.state in (TesState.COMPLETE, TesState.EXECUTOR_ERROR):
            self._nodes.closures.went_well(lease.node)
        end = partial(changes.end, last=last, settings=self._settings)
        # Submitted here, and so before what the runner does next.
        self._spawn(self._settle(key, end, lease.node, self._submit(end)))

    async def _settle(
        self,
        attempt: AttemptKey,
        change: Callable[[Connection], Ended | None],
        node: str,
        submitted: "asyncio.Future[Ended | None] | None" = None,
    ) -> None:
        """Write the end of an attempt on a node and see to what follows from it."""
        try:
            ended = await self._persist(change, submitted)
        finally:
            self._in_hand.discard(attempt)
            self._settled.set()
        if ended is None:
            return
        if ended.may_have_staged:
            self._spawn(self._fencing.fence_off(ended.id))
        if ended.state is TesState.QUEUED:
            self._backlog.count += 1
            self._retrying.add(ended.id)
            self._spawn(self._retry(ended, node))
        elif waiting := self._ended.get(ended.id):
            waiting.set()

    async def _retry(self, ended: Ended, node: str) -> None:
        if ended.retries:
            await asyncio.sleep(pause_before(ended.retries, self._settings.retry_delay))
        if ended.id not in self._retrying:  # cancelled meanwhile
            return
        self._retrying.discard(ended.id)
        self.enqueue([Queued(ended.id, ended.pool)])
        if node and ended.retries:
            self._lanes.make_wary(ended.id, Shape.from_key(ended.pool.shape), node)

    async def _lost(self, task: Running, loss: Loss | None, node: str) -> None:
        """An attempt whose runner is no more: clean up after it, then decide what follows.

        Parameters:
            loss: why; None: that is to be found out.
            node: where the runner was; empty: nobody knows.
        """
        key = _key(task)
        self._in_hand.add(key)
        try:
            death = await self._nodes.death(node) if node else None
            if not node and task.runner not in self._leases:
                # It may live yet, and must not go on beside the next attempt. One that has a
                # lease is at another task by now.
                await asyncio.to_thread(kill_named, RUNNER_PREFIX + task.runner)
            if death is None and node:
                if not await self._nodes.sweep(node):
                    death = await self._nodes.death(node)  # Ray takes a while to be sure of it
                if death is None:
                    self._failed_on(node)
            elif not node and loss is not STOPPED:
                # Neither must what it ran.
                await self._nodes.sweep_all()
            why = loss or death or runner_lost(self._nodes.name(node))
            lose = partial(changes.lose, task=task, loss=why, settings=self._settings)
            await self._settle(key, lose, node)
        finally:
            # Whatever happened: the reconciler then finds that nobody sees to it.
            self._in_hand.discard(key)
            self._settled.set()

    def _failed_on(self, node: str) -> None:
        """An attempt failed on a node by the node's own fault."""
        if self._nodes.closures.failed(node):
            logger.warning("node %s gets no tasks: it is looked at first", self._nodes.name(node))
            self._nodes_changed()
            self._see_nodes()

    def _release(self, lease: Lease) -> None:
        if lease.drive:
            lease.drive.cancel()

    def _forget(self, lease: Lease) -> None:
        if self._leases.pop(lease.id, None) is None:
            return
        self._lanes.gone(lease.id)
        ray.kill(lease.actor)
        self._settled.set()
        self._replan.set()

    def _refill(self) -> None:
        """Fetch what comes next for the lanes that may run dry."""
        for pool, after in self._backlog.low():
            self._spawn(self._for_ever(self._fetch(pool, after)))

    async def _fetch(self, pool: Pool, after: str) -> None:
        oldest = partial(changes.oldest, pool=pool, after=after, limit=WINDOW)
        self._into_lanes(self._backlog.fetched(pool, await self._persist(oldest)))

    def _into_lanes(self, tasks: Iterable[Queued]) -> None:
        for task in tasks:  # none, while more wait than lanes hold: then the plan is as it was
            self._lanes.enqueue(task.id, Shape.from_key(task.pool.shape))
            self._replan.set()

    # --- planning ---------------------------------------------------------------------

    async def _plan_on_events(self) -> None:
        while not self._stopping:
            due = self._lanes.deadline()
            timeout = None if due is None else max(0.0, due - time.monotonic())
            try:
                await asyncio.wait_for(self._replan.wait(), timeout)
            except TimeoutError:
                logger.debug("something fell due")
            self._replan.clear()
            if not self._stopping:
                self._carry_out_plan()

    def _carry_out_plan(self) -> None:
        plan = self._lanes.plan()
        for runner_id in plan.release:
            self._release(self._leases[runner_id])
        for shape in plan.request:
            self._request(shape)
        for runner_id in plan.wake:
            self._leases[runner_id].work.set()

    async def _watch_nodes(self) -> None:
        while True:
            await asyncio.sleep(_NODES_EVERY_S)
            try:
                await self._nodes.refresh()
            except RayError as error:
                logger.warning("Ray does not say which nodes there are: %s", error)
                continue
            self._see_nodes()
            self._nodes_changed()
            await self._tell_the_stranded()
            hopeless = self._lanes.hopeless(self._settings.infeasible_grace)
            # All of them first: one that is cancelled meanwhile is in no lane any more.
            for task_id in chain.from_iterable(tasks for _, tasks in hopeless):
                self._backlog.release(task_id)
            for shape, tasks in hopeless:
                await self._refuse(tasks, "infeasible", self._why_hopeless(shape))

    async def _for_ever(self, loop: Coroutine[Any, Any, None]) -> None:
        """A loop without which nothing goes on: if it fails, the store starts afresh."""
        try:
            await loop
        except Exception:
            logger.exception("the dispatcher failed; the store starts again from its database")
            os._exit(1)

    def _nodes_changed(self) -> None:
        nodes, self._disk_declared = with_disk(self._nodes.living())
        self._lanes.set_nodes(nodes)
        self._replan.set()

    def _see_nodes(self) -> None:
        at_work = (lease.node for lease in self._leases.values())
        self._nodes.see(at_work, waiting=bool(self._backlog.count))

    async def _tell_the_stranded(self) -> None:
        """Say in the logs of tasks that wait because nodes are closed, why those are."""
        for tasks, nodes in self._lanes.stranded(_STRANDED_AFTER_S):
            why = "; ".join(f"{node.name}: {node.closed}" for node in nodes)
            line = (
                f"this task waits, because no task is begun on the nodes that could hold it: {why}"
            )
            for task_id in tasks:
                await self._persist(partial(changes.note, task_id=task_id, line=line))

    def _why_hopeless(self, shape: Shape) -> str:
        largest = self._lanes.largest_node()
        there_is = f"the largest node has {largest}" if largest else "there is no node"
        return (
            f"No node can hold this task: it asks for {shape}, and {there_is}. "
            "Ask for less, or add such a node to the cluster."
        )

    async def _refuse(self, tasks: list[str], reason: FailureReason, line: str) -> None:
        """End queued tasks that can't run, of which the backlog has been told."""
        refusals = [
            partial(changes.refuse, task_id=task_id, reason=reason, line=line) for task_id in tasks
        ]
        # Together, so that they share transactions.
        answers = await asyncio.gather(*(self._persist(refuse) for refuse in refusals))
        refused = [ended for ended in answers if ended is not None]
        self._backlog.count -= len(refused)
        for ended in refused:
            if ended.may_have_staged:
                self._spawn(self._fencing.fence_off(ended.id))
        self._refill()

    async def _persist(
        self, change: Callable[[Connection], T], submitted: "asyncio.Future[T] | None" = None
    ) -> T:
        """Make a change that must not be lost: again and again until the disk takes it.

        `submitted`: the first time is under way.
        """
        while True:
            try:
                return await (submitted or self._submit(change))
            except DatabaseUnavailable:
                submitted = None
                await asyncio.sleep(_DATABASE_RETRY_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("the dispatcher failed", exc_info=error)


def pause_before(retry: int, delay: float) -> float:
    """Seconds before a retry, the first of which is number 1 and waits for `delay`."""
    return growing_pause(retry, delay, max(delay, _LONGEST_PAUSE_S))


def _key(task: Running) -> AttemptKey:
    return task.id, task.attempt
