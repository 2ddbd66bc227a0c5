"""What the dispatcher says of itself and its nodes."""

from collections.abc import Mapping
from dataclasses import dataclass

from raytes.dispatch.shape import Node
from raytes.runner.condition import Condition


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """A node, how it is, and what is on it."""

    node: Node
    condition: Condition | None  # None: it hasn't been looked at yet
    runners: int
    tasks: int  # at which they are


@dataclass(frozen=True, slots=True)
class Health:
    """How the service's tasks and nodes are."""

    queued: int
    nodes: tuple[NodeHealth, ...]
    repaired: Mapping[str, int]  # how often what was amiss, since the store was started
