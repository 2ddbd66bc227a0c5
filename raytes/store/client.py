"""The store as an API replica sees it: writes through the actor, reads from the database."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import ray
from ray.exceptions import ActorDiedError

from raytes.config import Settings
from raytes.dispatch.health import Health
from raytes.dispatch.shape import Node
from raytes.errors import RaytesError
from raytes.store.actor import NAME
from raytes.store.database import database_of
from raytes.store.documents import NewTask
from raytes.store.line import Line
from raytes.store.reader import Reader
from raytes.views import View

_REPLACED_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.1
# So many turns of the loop a request takes from its arrival to `create`, about. A call costs the
# store nearly as much for one task as for several: those that have arrived wait for one another.
_TURNS = 3


class QueueFull(RaytesError):
    """As many tasks wait as may (`max_queued`): try again later."""

    failure_reason = "queue_full"


class StoreClient:
    """One replica's way to the store. Creates in flight travel as one call."""

    def __init__(self, settings: Settings) -> None:
        self._database = database_of(settings)
        self.reader = Reader(self._database)
        self._namespace = settings.name
        self._actor: Any = ray.get_actor(NAME, self._namespace)
        self._line = Line(settings)
        self._waiting: list[NewTask] = []
        self._next: asyncio.Future[frozenset[str]] | None = None
        self._sending = False
        self._several = False  # tasks in the last call: only then more may be on their way

    async def create(self, task: NewTask) -> None:
        """Store a task; returns when it is on disk.

        Raises:
            DatabaseUnavailable: it was not stored.
            QueueFull: neither, and for as long as none of those that wait begins.
        """
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        self._waiting.append(task)
        stored = self._next
        if not self._sending:
            self._sending = True
            self._sender = asyncio.create_task(self._send())
        if task.id in await asyncio.shield(stored):
            raise QueueFull("as many tasks wait as this service lets wait")

    async def get(self, task_id: str, view: View) -> bytes | None:
        """The task as JSON, or None if there is none of that id.

        Raises:
            DatabaseUnavailable: the database can't be read now.
        """
        if self._database.local:
            return self.reader.get(task_id, view)
        return await asyncio.to_thread(self.reader.get, task_id, view)

    async def cancel(self, task_id: str) -> bool:
        """Cancel a task; False if there is none of that id."""
        return bool(await self._ask(lambda store: store.cancel.remote(task_id)))

    async def health(self) -> Health:
        """How the service is, as far as is known now.

        Raises:
            DatabaseUnavailable: nothing can be written.
        """
        found: Health = await self._ask(lambda store: store.health.remote(patience_s=0.0))
        return found

    async def drain_node(self, name: str, grace_s: float | None) -> Node:
        """Begin no more tasks on a node; see `Store.drain_node`.

        Raises:
            UnknownNode: there is no node of that name.
        """
        node: Node = await self._ask(lambda store: store.drain_node.remote(name, grace_s))
        return node

    async def undrain_node(self, name: str) -> Node:
        """Begin tasks on a node again.

        Raises:
            UnknownNode: there is no node of that name.
        """
        node: Node = await self._ask(lambda store: store.undrain_node.remote(name))
        return node

    def close(self) -> None:
        """Close what is open."""
        self._line.close()
        self.reader.close()

    async def _send(self) -> None:
        """Send what has gathered, as long as something has while the last call was out."""
        try:
            while self._next is not None:
                for _ in range(_TURNS if self._several else 0):
                    await asyncio.sleep(0)
                batch, stored = self._waiting, self._next
                self._waiting, self._next = [], None
                self._several = len(batch) > 1
                try:
                    refused = await self._line.create(batch)
                    if refused is None:
                        refused = await self._ask(partial(_create, batch))
                except Exception as error:
                    stored.set_exception(error)
                else:
                    stored.set_result(refused)
        finally:
            self._sending = False

    async def _ask(self, call: Callable[[Any], Any]) -> Any:
        """What a call to the store answers. Where another store has taken its place, that one
        is asked: what the first was told may be on disk, and to be told again does no harm."""
        deadline = time.monotonic() + _REPLACED_WITHIN_S
        while True:
            try:
                return await call(self._actor)
            except ActorDiedError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_LOOK_EVERY_S)
            with suppress(ValueError):  # it isn't there yet
                self._actor = await asyncio.to_thread(ray.get_actor, NAME, self._namespace)


def _create(tasks: list[NewTask], store: Any) -> Any:
    return store.create.remote(tasks)
