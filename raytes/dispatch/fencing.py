"""Fencing off the lost attempts at tasks that have ended; a next attempt would see to it itself.

What such an attempt has staged of its outputs is removed, so that it can't appear late. Where
that fails it is tried again, until the store ends; a later store knows of those that have left
receipts.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from raytes.attempt import Assignment
from raytes.dispatch.upkeep import Persist
from raytes.store import changes

_AGAIN_EVERY_S = 600.0

logger = logging.getLogger(__name__)


class Fencing:
    """Knows the ended tasks of which something may be left."""

    def __init__(self, remove: Callable[[Assignment], Awaitable[bool]], persist: Persist) -> None:
        """`remove` is given the attempt that a task doesn't get any more, removes what those
        before it have staged, and says whether that could be done."""
        self._remove = remove
        self._persist = persist
        self._left: set[str] = set()
        self._under_way: set[str] = set()

    async def fence_off(self, task_id: str) -> None:
        """Remove what lost attempts at a task that has ended have staged of its outputs, unless
        that is under way."""
        if task_id in self._under_way:
            return
        self._left.add(task_id)
        self._under_way.add(task_id)
        try:
            if await self._fence_off(task_id):
                self._left.discard(task_id)
        finally:
            self._under_way.discard(task_id)

    async def _fence_off(self, task_id: str) -> bool:
        given_up = await self._persist(lambda c: changes.given_up(c, task_id))
        if given_up is not None and (given_up.task.outputs or given_up.receipts):
            if not await self._remove(given_up):
                return False
            await self._persist(lambda c: changes.forget_receipts(c, task_id))
        return True

    async def what_is_left(self) -> None:
        """`fence_off` for those with which it failed before, one after the other, for ever."""
        while True:
            for task_id in sorted({*await self._persist(changes.unrevoked), *self._left}):
                try:
                    await self.fence_off(task_id)
                except Exception as error:
                    # Whatever it may be, the other tasks must not wait for it.
                    logger.warning("task %s is fenced off later: %r", task_id, error)
            await asyncio.sleep(_AGAIN_EVERY_S)
