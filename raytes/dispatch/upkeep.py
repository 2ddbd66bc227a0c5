"""Upkeep: what is done now and then so that nothing is stuck or left behind, whatever happened.

There should be nothing to repair. What is repaired all the same is logged and counted.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Set
from functools import partial
from typing import Any, Protocol, TypeVar

import ray
from ray.exceptions import RayError
from sqlalchemy import Connection

from raytes.dispatch.backlog import Backlog
from raytes.dispatch.calls import answer, kill_named
from raytes.dispatch.leases import RUNNER_PREFIX, Lease
from raytes.dispatch.nodes import Nodes
from raytes.dispatch.reconciler import Found, Reconciler, Repairs
from raytes.runner.actor import AttemptKey
from raytes.store import changes
from raytes.store.changes import Pool, Queued, Running

T = TypeVar("T")

_RECONCILE_EVERY_S = 15.0
_OLDEST_LOOKED_AT = 256  # of the tasks that wait in a pool
_COUNTED_OFTEN = 50_000
# A runner that is frozen, or hangs: none is so busy that it couldn't answer.
_SILENT_S = 180.0
_SWEEP_EVERY_S = 60.0
_ANSWER_TIMEOUT_S = 30.0

logger = logging.getLogger(__name__)


class Persist(Protocol):
    """Makes a change, again and again until the database takes it."""

    def __call__(self, change: Callable[[Connection], T]) -> Coroutine[Any, Any, T]: ...


class Upkeep:
    """Looks at what the dispatcher has, which it doesn't change by itself."""

    def __init__(
        self,
        leases: Mapping[str, Lease],
        backlog: Backlog,
        in_hand: Set[AttemptKey],
        retrying: Set[str],
        nodes: Nodes,
        persist: Persist,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        try_again: Callable[[Running], object],
        enqueue: Callable[[frozenset[Queued]], None],
    ) -> None:
        """
        Parameters:
            in_hand: attempts that no lease has and that are seen to all the same.
            retrying: tasks that are enqueued again in a while.
            try_again: told of an attempt that nobody sees to.
            enqueue: told of waiting tasks that no lane knows.
        """
        self._leases = leases
        self._backlog = backlog
        self._in_hand = in_hand
        self._retrying = retrying
        self._nodes = nodes
        self._persist = persist
        self._spawn = spawn
        self._try_again = try_again
        self._enqueue = enqueue
        self._pinged: set[str] = set()  # runners that have not answered yet
        self.repaired = Counter[str]()
        """How often what was repaired."""

    async def reconcile(self) -> None:
        """Compare what the database says with what Ray runs and what is seen to here, and
        repair what doesn't agree. There should be nothing to repair."""
        reconciler = Reconciler()
        while True:
            await asyncio.sleep(_RECONCILE_EVERY_S)
            try:
                found = await self._look_around()
            except RayError as error:
                logger.warning("Ray does not say which runners there are: %s", error)
                continue
            self._repair(reconciler.compare(found))
            for lease in self._leases.values():
                if lease.node and lease.id not in self._pinged:
                    self._spawn(self._ping(lease))

    async def _look_around(self) -> Found:
        names = await asyncio.to_thread(ray.util.list_named_actors)
        waiting: list[Queued] = []
        for pool in await self._pools():
            waiting += await self._persist(
                partial(changes.oldest, pool=pool, after="", limit=_OLDEST_LOOKED_AT)
            )
        with_runner = await self._persist(changes.with_runner)
        # Without a pause from here on, so that it is of one moment.
        leases = self._leases.values()
        return Found(
            with_runner=frozenset(with_runner),
            waiting=frozenset(waiting),
            actors=frozenset(
                name.removeprefix(RUNNER_PREFIX) for name in names if name.startswith(RUNNER_PREFIX)
            ),
            leases=frozenset(self._leases) | {one.runner for one in with_runner},
            seen_to=frozenset(lease.task for lease in leases if lease.task) | self._in_hand,
            held=frozenset(task.id for task in waiting if self._is_held(task)),
        )

    async def _pools(self) -> list[Pool]:
        """Those that have waiting tasks: by the database, but for a long queue, which takes
        its time to be counted."""
        if self._backlog.count > _COUNTED_OFTEN:
            return self._backlog.pools()
        return [pool for pool, _ in await self._persist(changes.waiting)]

    def _is_held(self, task: Queued) -> bool:
        return task in self._backlog or task.id in self._retrying

    def _repair(self, repairs: Repairs) -> None:
        for task in repairs.orphans:
            logger.error("task %s has no owner: it is tried again", task.id)
            self._try_again(task)
        for runner in repairs.strangers:
            logger.error("runner %s has no lease: it is ended", runner)
            self._spawn(asyncio.to_thread(kill_named, RUNNER_PREFIX + runner))
        if repairs.forgotten:
            logger.error("%d waiting tasks were in no lane", len(repairs.forgotten))
            self._enqueue(repairs.forgotten)
        for task in repairs.cancels:
            logger.warning("task %s is still being cancelled: its runner is told again", task.id)
            if lease := self._leases.get(task.runner):
                lease.actor.cancel.remote(task.id, task.attempt)
        self.repaired.update(
            orphans=len(repairs.orphans),
            strangers=len(repairs.strangers),
            forgotten=len(repairs.forgotten),
            cancels=len(repairs.cancels),
        )

    async def _ping(self, lease: Lease) -> None:
        """End a runner whose process lives and has not answered for long: Ray would not."""
        self._pinged.add(lease.id)
        try:
            await asyncio.wait_for(answer(lease.actor.describe.remote()), _SILENT_S)
        except TimeoutError:
            if lease.id in self._leases:
                logger.error("runner %s does not answer: it is ended", lease.id)
                self.repaired.update(silent=1)
                ray.kill(lease.actor)
        except RayError as error:
            logger.info("runner %s can't be asked: %s", lease.id, error)
        finally:
            self._pinged.discard(lease.id)

    async def sweep_nodes(self) -> None:
        """Have what dead runners left removed, by a living one on each node that has any. Where
        there is none, the watcher beside the node's Podman service has seen to it."""
        while True:
            await asyncio.sleep(_SWEEP_EVERY_S)
            by_node = {lease.node: lease for lease in self._leases.values() if lease.node}
            for node, lease in by_node.items():
                try:
                    removed = await asyncio.wait_for(
                        answer(lease.actor.sweep.remote()), _ANSWER_TIMEOUT_S
                    )
                except (RayError, TimeoutError) as error:
                    logger.warning("node %s was not swept: %s", self._nodes.name(node), error)
                    continue
                for line in removed:
                    logger.warning("removed %s on node %s", line, self._nodes.name(node))
                self.repaired.update(leftovers=len(removed))
