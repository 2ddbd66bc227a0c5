"""The runner as a Ray actor: one task at a time, on the resources that Ray has leased for it.

It may be killed at any moment: what it leaves is removed by `sweep`, and by the watcher beside
the node's Podman service when the node's last runner is gone.
"""

import asyncio
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import ray

from raytes.attempt import Assignment, Receipt, Update
from raytes.config import Settings
from raytes.errors import RaytesError
from raytes.garbage import spare_what_is_there
from raytes.runner.control import Control
from raytes.runner.image_files import ImageFiles
from raytes.runner.metrics import InputMetrics
from raytes.runner.service import PodmanService
from raytes.runner.sweep import sweep_with
from raytes.runner.task import Node, run_attempt
from raytes.storage import Storage

_KEPT: Final = 16  # last updates of attempts that have ended, for a store that asks again

_ASK_AGAIN_AFTER: Final = 1.0  # seconds; when the store didn't answer
_LOOK_AT_STOP: Final = 0.5  # seconds

logger = logging.getLogger(__name__)

AttemptKey = tuple[str, int]
"""A task's id and the number of an attempt at it."""


@dataclass(frozen=True, slots=True)
class RunnerInfo:
    """What a runner says of itself."""

    runner_id: str
    shape: str
    node_id: str
    current: AttemptKey | None


class Runner:
    """Runs tasks, one at a time; its other methods answer while it does."""

    def __init__(
        self, settings: Settings, instance: str, runner_id: str, store_name: str, shape: str
    ) -> None:
        self._settings = settings = settings.on_this_node()
        self._runner_id = runner_id
        self._shape = shape
        self._store_name = store_name
        self._store: Any = None
        self._node = Node(
            name=socket.gethostname(),
            settings=settings,
            instance=instance,
            podman=PodmanService(settings, instance),
            storage=Storage(settings),
            image_files=ImageFiles(),
            count_inputs=InputMetrics(settings.name).count,
            gpus=_assigned_gpus(),
        )
        # However often the store asks, it waits here and not on a thread.
        self._thread = ThreadPoolExecutor(1, "attempt")
        self._attempts: dict[AttemptKey, asyncio.Future[Update]] = {}
        self._current: AttemptKey | None = None
        self._control = Control()
        self._canceled: deque[AttemptKey] = deque(maxlen=_KEPT)
        self._stopping = False
        spare_what_is_there()
        threading.Thread(target=self._prepare_node, name="sweep", daemon=True).start()

    async def describe(self) -> RunnerInfo:
        """Who this runner is, where, and what it is at."""
        return RunnerInfo(
            runner_id=self._runner_id,
            shape=self._shape,
            node_id=ray.get_runtime_context().get_node_id(),
            current=self._current,
        )

    async def run(self, assignment: Assignment) -> Update:
        """Run an attempt; returns its last update.

        Asked again for the same attempt, it waits for the same end.
        """
        key = (assignment.task_id, assignment.attempt)
        if key not in self._attempts:
            self._begin(key, assignment)
        return await asyncio.shield(self._attempts[key])

    async def cancel(self, task_id: str, attempt: int) -> None:
        """Cancel an attempt: the one that is run, or one that is about to be.

        Ray may deliver the two calls in either order.
        """
        self._canceled.append((task_id, attempt))
        if self._current == (task_id, attempt):
            await asyncio.to_thread(self._control.cancel)

    async def stop(self) -> None:
        """End what is run, and whatever is begun after it: the service or the node stops."""
        self._stopping = True
        await asyncio.to_thread(self._control.shut_down)

    async def sweep(self) -> list[str]:
        """Remove what dead runners have left on this node; a line for each thing.

        Raises:
            PodmanUnavailable: Podman doesn't answer.
        """
        return await asyncio.to_thread(self._sweep)

    def _sweep(self) -> list[str]:
        engine = self._node.podman.engine()
        return sweep_with(engine, self._settings, self._node.instance)

    def _prepare_node(self) -> None:
        """Have the node's Podman up before the first task, and no leftovers in its way."""
        try:
            for shortcoming in self._node.podman.enforcement().shortcomings:
                logger.warning("%s", shortcoming)
            removed = self._sweep()
        except RaytesError as error:
            logger.warning("this node could not be swept: %s", error)
            return
        for line in removed:
            logger.info("removed %s, left behind by a runner that died", line)

    def _begin(self, key: AttemptKey, assignment: Assignment) -> None:
        if len(self._attempts) >= _KEPT:
            del self._attempts[next(iter(self._attempts))]
        self._current = key
        self._control = control = Control()
        if self._stopping:
            control.shut_down()
        if key in self._canceled:
            control.cancel()
        authorize = partial(self._authorize, control)
        attempt = asyncio.get_running_loop().run_in_executor(
            self._thread, run_attempt, assignment, self._node, self._send, authorize, control
        )
        self._attempts[key] = attempt
        attempt.add_done_callback(lambda _: self._ended(key))

    def _ended(self, key: AttemptKey) -> None:
        if self._current == key:  # else the next one is waiting for the thread
            self._current = None

    def _authorize(
        self, control: Control, task_id: str, attempt: int, receipts: Sequence[Receipt]
    ) -> bool:
        asked: Any = None
        while True:
            control.check()
            try:
                asked = asked or self._found_store().authorize.remote(task_id, attempt, receipts)
                return bool(ray.get(asked, timeout=_LOOK_AT_STOP))
            except ray.exceptions.GetTimeoutError:
                continue
            except (ValueError, ray.exceptions.RayError) as error:
                logger.warning("the store did not say whether task %s goes on: %r", task_id, error)
                self._store = asked = None
                control.stop.wait(_ASK_AGAIN_AFTER)

    def _found_store(self) -> Any:
        store = self._store  # which another thread may find gone at any moment
        if store is None:
            store = self._store = ray.get_actor(self._store_name)
        return store

    def _send(self, update: Update, answer: Callable[[bool], None]) -> None:
        try:
            reference = self._found_store().report.remote([update])
        except (ValueError, ray.exceptions.RayError) as error:
            self._not_sent(update, error)
            answer(False)
            return
        reference.future().add_done_callback(partial(self._sent, update, answer))

    def _sent(
        self, update: Update, answer: Callable[[bool], None], outcome: "Future[None]"
    ) -> None:
        if (error := outcome.exception()) is not None:
            self._not_sent(update, error)
        answer(error is None)

    def _not_sent(self, update: Update, error: BaseException) -> None:
        logger.warning("the store did not take an update of task %s: %r", update.task_id, error)
        # Another one may have taken its place; until then the report keeps what it has to say.
        self._store = None


def _assigned_gpus() -> tuple[str, ...]:
    ids = ray.get_runtime_context().get_accelerator_ids()
    return tuple(sorted(ids.get("GPU", ())))
