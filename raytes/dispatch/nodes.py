"""The nodes of the cluster: which there are, how they are, and how one that is gone ended."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raytes import __version__
from raytes.attempt import Assignment
from raytes.config import Settings
from raytes.dispatch.calls import answer
from raytes.dispatch.closures import Closures
from raytes.dispatch.conditions import Conditions
from raytes.dispatch.losses import node_lost
from raytes.dispatch.shape import (
    DISK_RESOURCE,
    GPU_LABEL,
    GPU_RESOURCE,
    MARKET_LABEL,
    ZONE_LABEL,
    Node,
)
from raytes.errors import UnknownNode
from raytes.runner.condition import Condition, examine, out_of_reach
from raytes.runner.fence import fence_off_all
from raytes.runner.sweep import sweep
from raytes.store.changes import Loss

_EXAMINE_TIMEOUT_S: Final = 60.0
_SWEEP_TIMEOUT_S: Final = 30.0

logger = logging.getLogger(__name__)


class Nodes:
    """What is known of the nodes, and what is done on them outside of runners."""

    def __init__(
        self, settings: Settings, instance: str, serving_node: str, changed: Callable[[], None]
    ) -> None:
        """`changed` is called when a node has been looked at."""
        self._settings = settings
        self._instance = instance
        self._serving_node = serving_node
        self._changed = changed
        # Made once, as the dispatcher's runner is.
        self._examining: Any = ray.remote(examine)
        self._sweeping: Any = ray.remote(sweep)
        self._fencing: Any = ray.remote(fence_off_all)
        self._found: dict[str, Node] = {}
        self._conditions = Conditions(self._examine)
        self._trusted: set[str] = set()
        self._sweeps = 0  # of all nodes, begun so far
        self._one_sweep = asyncio.Lock()
        self.closures = Closures(time.monotonic)
        """Which of them are closed."""

    def living(self) -> list[Node]:
        """The nodes that live, each with what speaks against beginning a task there."""
        return [
            replace(
                node,
                closed=self.closures.why(node.id),
                looked_at=node.id in self._trusted or self.condition(node.id) is not None,
            )
            for node in self._found.values()
        ]

    def name(self, node: str) -> str:
        """A node's name for a person; its id if it isn't known."""
        return self._found[node].name if node in self._found else node

    def find(self, name: str) -> Node:
        """The node of a name, an address, an id, or the beginning of one.

        Raises:
            UnknownNode: there is none, or more than one.
        """
        nodes = self.living()
        found = [node for node in nodes if name in (node.id, node.name, node.address)]
        found = found or [node for node in nodes if name and node.id.startswith(name)]
        if len(found) == 1:
            return found[0]
        known = ", ".join(f"{node.name} ({node.id})" for node in found or nodes)
        how_many = "more than one node is" if found else "no node is"
        raise UnknownNode(f"{how_many} called {name!r}: say the id of one of {known}")

    async def refresh(self) -> None:
        """Ask Ray which nodes there are.

        Raises:
            RayError: it doesn't say.
        """
        entries = await asyncio.to_thread(ray.nodes)
        self._found = {
            entry["NodeID"]: _node(entry, self._serving_node) for entry in entries if entry["Alive"]
        }
        self._trusted &= self._found.keys()
        self.closures.forget_others(self._found.keys())

    def see(self, at_work: Iterable[str], *, waiting: bool) -> None:
        """Have the nodes looked at where it is time to.

        Parameters:
            at_work: the nodes that have runners.
            waiting: whether there are tasks that wait.
        """
        able = [node.id for node in self._found.values() if node.cpus]
        self._conditions.see(able, at_work, self.closures.due(waiting=waiting))

    def trust(self, node: str) -> None:
        """A node has runners from before: it need not be looked at before its next task."""
        self._trusted.add(node)

    def condition(self, node: str) -> Condition | None:
        """How a node was when it was last looked at; None: it hasn't been yet."""
        return self._conditions.of(node)

    async def first_looks(self, patience_s: float) -> None:
        """Wait, for so long at most, until each node has been looked at."""
        await self._conditions.first(patience_s)

    async def death(self, node: str) -> Loss | None:
        """How a node died; None: it lives, or nothing is known of it."""
        try:
            entries = await asyncio.to_thread(ray.nodes)
        except RayError as error:
            logger.warning("Ray does not say how node %s is: %s", node, error)
            return None
        dead = (entry for entry in entries if entry["NodeID"] == node and not entry["Alive"])
        return next(map(node_lost, dead), None)

    async def sweep(self, node: str) -> bool:
        """Remove what dead runners left on a node; whether that could be done."""
        clean = self._sweeping.options(num_cpus=0, **_on(node))
        try:
            removed: list[str] = await asyncio.wait_for(
                answer(clean.remote(self._settings, self._instance)), _SWEEP_TIMEOUT_S
            )
        except (RayError, TimeoutError) as error:
            logger.warning("node %s could not be swept: %s", self.name(node), error)
            return False
        for line in removed:
            logger.info("removed %s on node %s, left by a dead runner", line, self.name(node))
        return True

    async def sweep_all(self) -> None:
        """Remove what dead runners left, wherever that was.

        Those who ask meanwhile share one sweep: the next, because what they ask for may be
        younger than that which is under way.
        """
        before = self._sweeps
        async with self._one_sweep:
            if self._sweeps == before:
                self._sweeps += 1
                able = [node.id for node in self._found.values() if node.cpus]
                await asyncio.gather(*map(self.sweep, able))

    async def fence_off(self, given_up: Assignment) -> bool:
        """Remove what lost attempts at a task have staged of its outputs; whether that could be
        done. `given_up` names the attempt that the task doesn't get any more.
        """
        # This node has all local roots.
        remove = self._fencing.options(num_cpus=0, **_on(self._serving_node))
        try:
            await asyncio.wait_for(
                answer(remove.remote(given_up, self._settings)), _SWEEP_TIMEOUT_S
            )
        except (RayError, TimeoutError) as error:
            task_id = given_up.task_id
            logger.warning("task %s may have left something at its outputs: %s", task_id, error)
            return False
        return True

    async def _examine(self, node: str) -> Condition:
        """Have a node looked at, on the node itself."""
        condition = await self._look(node)
        if condition.fault and not self.closures.why(node):
            logger.warning("node %s gets no tasks: %s", self.name(node), condition.fault)
        self.closures.looked(node, condition.fault)
        asyncio.get_running_loop().call_soon(self._changed)  # when the condition is known
        return condition

    async def _look(self, node: str) -> Condition:
        look = self._examining.options(num_cpus=0, max_retries=0, **_on(node))
        try:
            found: Condition = await asyncio.wait_for(
                answer(look.remote(self._settings, self._instance, __version__)),
                _EXAMINE_TIMEOUT_S,
            )
        except TimeoutError:
            return out_of_reach(f"it did not answer within {_EXAMINE_TIMEOUT_S:.0f} seconds")
        except RayError as error:
            words = str(error).strip() or type(error).__name__
            return out_of_reach(words.splitlines()[-1])
        return found


def _on(node: str) -> dict[str, Any]:
    """The options of what is run on one node and nowhere else."""
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}


def _node(entry: dict[str, Any], serving_node: str) -> Node:
    resources, labels = entry["Resources"], entry.get("Labels", {})
    return Node(
        id=entry["NodeID"],
        cpus=resources.get("CPU", 0.0),
        memory=int(resources.get("memory", 0)),
        disk_gb=resources.get(DISK_RESOURCE),
        gpus=resources.get(GPU_RESOURCE, 0.0),
        gpu_type=labels.get(GPU_LABEL, ""),
        zone=labels.get(ZONE_LABEL, ""),
        spot=labels.get(MARKET_LABEL) == "spot",
        serving=entry["NodeID"] == serving_node,
        name=entry["NodeManagerHostname"],
        address=entry["NodeManagerAddress"],
    )
