"""The store: the one actor that writes tasks, and inside it the dispatcher.

A detached, named, restartable Ray actor. Everything it knows is in the database; killed
between any two statements, it goes on from there.
"""

import asyncio
import contextlib
import json
import logging
import os
import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import ray
from sqlalchemy import Connection

from raytes.attempt import Receipt, Update
from raytes.config import Settings
from raytes.dispatch.dispatcher import Dispatcher
from raytes.dispatch.health import Health
from raytes.dispatch.shape import Node
from raytes.garbage import spare_what_is_there
from raytes.models import TesState
from raytes.moment import now
from raytes.runner.actor import Runner
from raytes.store import changes
from raytes.store.changes import Created, Pool, Queued
from raytes.store.database import DatabaseUnavailable, database_of
from raytes.store.documents import NewTask
from raytes.store.line import Exchange
from raytes.store.retention import Retention, prune_for_ever
from raytes.store.writer import Writer

T = TypeVar("T")
NAME = "store"
"""The actor's name; its namespace is the name of the service."""

_CANCEL_PATIENCE_S = 2.0
_REPLACE_WITHIN_S = 10.0
_REPLACE_EVERY_S = 0.1
_READY_PATIENCE_S = 10.0
_INSIST_EVERY_S = 0.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells this service, and this start of it, from all others."""

    session: str  # of this start; a restarted store finds it unchanged
    node: str  # that serves: the Ray node's id in hexadecimal


class Store:
    """The service's tasks. All methods may be called again after a fault, to no harm."""

    def __init__(self, settings: Settings, identity: Identity, runner: type = Runner) -> None:
        logging.basicConfig(level=logging.INFO)
        self._settings = settings
        self._identity = identity
        self._runner = runner
        database = database_of(settings)
        self._writer = Writer(database, database.writing())
        self._trouble = "the task store is starting"
        self._started = asyncio.get_running_loop().create_task(self._start_or_end())
        self._dispatcher: Dispatcher
        self._exchange = Exchange(settings, self.create)
        self._pruning: asyncio.Task[None] | None = None
        self._draining = asyncio.Lock()  # of who is about to change which nodes are drained

    async def _start_or_end(self) -> None:
        try:
            await self._start()
        except Exception:
            logger.exception("the store could not start; it is started again")
            os._exit(1)

    async def _start(self) -> None:
        facts = await self._insist(changes.recall)
        restarted = facts.get("session") == self._identity.session
        moment = now()
        fresh = {
            "instance": uuid.uuid4().hex,
            "created": moment,
            "page_secret": secrets.token_hex(16),
            **facts,
            "updated": facts["updated"] if restarted else moment,
        }
        await self._insist(partial(changes.remember, facts=fresh))
        waiting = await self._insist(changes.waiting)
        running = await self._insist(changes.with_runner)
        # What goes to other nodes has no password of the database.
        settings = self._settings.model_copy(update={"database": None})
        self._dispatcher = Dispatcher(
            settings,
            fresh["instance"],
            NAME,
            self._identity.node,
            self._submit,
            self._runner,
        )
        self._drained: dict[str, float] = json.loads(fresh.get("drained", "{}"))
        await self._dispatcher.start(waiting, running, restarted=restarted, drained=self._drained)
        self._beginning = asyncio.create_task(self._remember_session())
        kept = Retention(self._settings.retention_age, self._settings.retention_count)
        if kept:
            self._pruning = asyncio.create_task(prune_for_ever(self._submit, kept))
        await self._exchange.open()
        spare_what_is_there()

    async def _remember_session(self) -> None:
        """Have a restarted store know that it was, once all that ran before is seen to: until
        then what ran was stopped with an earlier service, and that costs no retry."""
        await self._dispatcher.taken_up()
        session = {"session": self._identity.session}
        await self._insist(partial(changes.remember, facts=session))

    async def ready(self, patience_s: float) -> None:
        """Returns when the store has taken up what it found.

        Raises:
            DatabaseUnavailable: it couldn't within so long. It goes on trying.
        """
        if not self._started.done():
            await asyncio.wait((self._started,), timeout=patience_s)
        if not self._started.done():
            raise DatabaseUnavailable(self._trouble)
        self._started.result()

    async def create(self, new: Sequence[NewTask]) -> frozenset[str]:
        """Store tasks durably and queue them. One that is there already is left as it is.

        Returns the ids of those that are not stored, because `max_queued` tasks wait.

        Raises:
            DatabaseUnavailable: none of them was stored.
        """
        await self.ready(_READY_PATIENCE_S)
        created = Created(0, frozenset())
        room = self._dispatcher.reserve(len(new))
        try:
            created = await self._submit(partial(changes.create, new=new, room=room))
        finally:
            self._dispatcher.unreserve(len(new) - created.fresh)
        self._dispatcher.enqueue(
            Queued(task.id, Pool(task.owner, task.shape))
            for task in new
            if task.id not in created.refused
        )
        return created.refused

    async def report(self, updates: Sequence[Update]) -> None:
        """Record what a runner says of its attempt."""
        await asyncio.gather(
            *(self._submit(partial(changes.record, news=update)) for update in updates)
        )

    async def authorize(self, task_id: str, attempt: int, receipts: Sequence[Receipt]) -> bool:
        """Whether an attempt may store its outputs; its receipts are on disk when it may.

        Raises:
            DatabaseUnavailable: ask again later.
        """
        return await self._submit(
            partial(changes.authorize, task_id=task_id, attempt=attempt, staged=receipts)
        )

    async def cancel(self, task_id: str) -> bool:
        """Cancel a task, and wait a moment for its container to be gone; False if there is
        no such task. A task that has ended stays as it is.
        """
        await self.ready(_READY_PATIENCE_S)
        found = await self._submit(partial(changes.cancel, task_id=task_id))
        if found is None:
            return False
        before, running = found
        if before is TesState.QUEUED:
            self._dispatcher.dequeue(task_id)
        if running is not None:
            await self._dispatcher.cancel(running, _CANCEL_PATIENCE_S)
        return True

    async def health(self, patience_s: float) -> Health:
        """How the service is; waits so long at most for the first look at its nodes.

        Raises:
            DatabaseUnavailable: nothing can be written, and so nothing be created or run.
        """
        await self.ready(_READY_PATIENCE_S)
        await self._submit(partial(changes.remember, facts={"checked": now()}))
        return await self._dispatcher.health(patience_s)

    async def drain_node(self, name: str, grace_s: float | None = None) -> Node:
        """Begin no more tasks on a node; those that run there have `grace_s` to end
        (None: `drain_timeout`), then they are given back. It holds until `undrain_node`.

        Raises:
            UnknownNode: there is no node of that name.
        """
        await self.ready(_READY_PATIENCE_S)
        node = self._dispatcher.find_node(name)
        deadline = time.time() + (self._settings.drain_timeout if grace_s is None else grace_s)
        async with self._draining:
            await self._remember_drained({**self._drained, node.id: deadline})
            self._dispatcher.drain(node.id, deadline)
        return self._dispatcher.find_node(node.id)

    async def undrain_node(self, name: str) -> Node:
        """Begin tasks on a node again.

        Raises:
            UnknownNode: there is no node of that name.
        """
        await self.ready(_READY_PATIENCE_S)
        node = self._dispatcher.find_node(name)
        async with self._draining:
            rest = {id: deadline for id, deadline in self._drained.items() if id != node.id}
            await self._remember_drained(rest)
            self._dispatcher.undrain(node.id)
        return self._dispatcher.find_node(node.id)

    async def _remember_drained(self, drained: dict[str, float]) -> None:
        await self._submit(partial(changes.remember, facts={"drained": json.dumps(drained)}))
        self._drained = drained

    async def drain(self) -> None:
        """Begin nothing more; returns when all that ran has ended or was given back."""
        await self.ready(_READY_PATIENCE_S)
        await self._dispatcher.stop()

    async def hurry(self) -> None:
        """Give back at once what `drain` waits for."""
        await self.ready(_READY_PATIENCE_S)
        self._dispatcher.hurry()

    async def stop(self) -> None:
        """Begin nothing more, give back what runs, and close the database."""
        await self.hurry()
        if self._pruning:
            self._pruning.cancel()
        self._exchange.close()
        await self._dispatcher.stop()
        await asyncio.to_thread(self._writer.close)

    async def _insist(self, change: Callable[[Connection], T]) -> T:
        """Make a change without which nothing can begin: again until the database takes it."""
        while True:
            try:
                return await self._submit(change)
            except DatabaseUnavailable as error:
                self._trouble = str(error)
                await asyncio.sleep(_INSIST_EVERY_S)

    def _submit(self, change: Callable[[Connection], T]) -> "asyncio.Future[T]":
        return asyncio.wrap_future(self._writer.submit(change))


def lives() -> bool:
    """Whether there is a store of the service, whose namespace must be joined."""
    with contextlib.suppress(ValueError):
        ray.get_actor(NAME)
        return True
    return False


def replace(settings: Settings, identity: Identity, runner: type = Runner) -> Any:
    """Start the service's store on the node that serves, in place of one that is left from
    a `serve` which was killed; its actor handle. The service's namespace must be joined.

    `runner` is the class whose actors run its tasks.
    """
    deadline = time.monotonic() + _REPLACE_WITHIN_S
    while True:
        with contextlib.suppress(ValueError):
            ray.kill(ray.get_actor(NAME))
        try:
            return _start(settings, identity, runner)
        except ValueError:  # Ray takes a moment to forget the name
            if time.monotonic() > deadline:
                raise
            time.sleep(_REPLACE_EVERY_S)


def _start(settings: Settings, identity: Identity, runner: type) -> Any:
    return (
        ray.remote(Store)
        .options(
            name=NAME,
            lifetime="detached",
            max_restarts=-1,
            max_task_retries=-1,
            max_concurrency=10_000,
            num_cpus=0,
            # Its database is there and nowhere else, after a restart too.
            scheduling_strategy=ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                identity.node, soft=False
            ),
        )
        .remote(settings, identity, runner)
    )
