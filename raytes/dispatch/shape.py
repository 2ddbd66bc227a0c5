"""A resource shape: what a task asks of Ray, as the key of its lane and as actor options."""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from raytes.config import GB, Settings
from raytes.models import TesResources
from raytes.parameters import choices_of

ZONE_LABEL = "ray.io/availability-zone"
MARKET_LABEL = "ray.io/market-type"
NODE_LABEL = "ray.io/node-id"
GPU_LABEL = "ray.io/accelerator-type"
GPU_RESOURCE = "GPU"
DISK_RESOURCE = "disk_gb"

_RAY_LEAST = 0.0001  # of any resource: Ray refuses to count less


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """What one task needs of one node. Tasks of equal shape can share a runner."""

    cpus: int
    memory: int  # bytes
    disk_gb: float = 0.0  # of 10^9 bytes; counted on nodes that declare the resource `disk_gb`
    zones: tuple[str, ...] = ()
    on_demand: bool = False  # keeps away from spot nodes
    serving: bool = False  # only the node that serves will do
    gpus: int = 0
    gpu_type: str = ""  # as Ray names it in the label; empty: any

    @property
    def kind(self) -> tuple[object, ...]:
        """All but the memory and the disk."""
        return (
            self.cpus, self.zones, self.on_demand, self.serving, self.gpus, self.gpu_type
        )  # fmt: skip

    def covers(self, other: "Shape") -> bool:
        """Whether who has this much of a node has all that `other` asks for, and as many CPUs
        and GPUs."""
        return (
            self.memory >= other.memory
            and self.disk_gb >= other.disk_gb
            and self.kind == other.kind
        )

    @lru_cache(maxsize=1024)  # noqa: B019 (a million tasks have few shapes)
    def key(self) -> str:
        """The shape as text, as the store keeps it: short, because an index has it."""
        default = Shape(cpus=0, memory=0)
        asked = {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) != getattr(default, field.name)
        }
        return json.dumps(asked, separators=(",", ":"))

    @classmethod
    @lru_cache(maxsize=1024)
    def from_key(cls, key: str) -> "Shape":
        """The shape that `key` was made of."""
        asked = json.loads(key)
        return cls(**{**asked, "zones": tuple(asked.get("zones", ()))})

    def labels(self, serving_node: str) -> dict[str, str]:
        """The Ray label selector that a node must satisfy."""
        selector = {}
        if self.zones:
            selector[ZONE_LABEL] = f"in({','.join(self.zones)})"
        if self.on_demand:
            selector[MARKET_LABEL] = "!spot"
        if self.serving:
            selector[NODE_LABEL] = serving_node
        if self.gpu_type:
            selector[GPU_LABEL] = self.gpu_type
        return selector

    def actor_options(
        self, *, serving_node: str, disk_declared: bool, without: Collection[str] = ()
    ) -> dict[str, Any]:
        """Options for the Ray actor that holds this shape's resources, on none of the nodes
        `without`."""
        options: dict[str, Any] = {"num_cpus": self.cpus, "memory": self.memory}
        if self.disk_gb and disk_declared:
            options["resources"] = {DISK_RESOURCE: max(self.disk_gb, _RAY_LEAST)}
        if self.gpus:
            options["num_gpus"] = self.gpus
        selector = self.labels(serving_node)
        if without and NODE_LABEL not in selector:
            selector[NODE_LABEL] = f"!in({','.join(sorted(without))})"
        if selector:
            options["label_selector"] = selector
        return options

    def __str__(self) -> str:
        parts = [f"{self.cpus} CPU{'s' * (self.cpus != 1)}", f"{self.memory / GB:g} GB of memory"]
        if self.disk_gb:
            parts.append(f"{self.disk_gb:g} GB of disk")
        if self.gpus:
            parts.append(_gpus(self.gpus, self.gpu_type))
        if self.zones:
            parts.append(f"zone {' or '.join(self.zones)}")
        if self.on_demand:
            parts.append("a node that isn't preemptible")
        if self.serving:
            parts.append("the node that serves (it uses a local root that isn't shared)")
        return ", ".join(parts)


def shape_of(resources: TesResources | None, settings: Settings, *, serving: bool) -> Shape:
    """The shape of a task that asks for `resources`; 0 and absent mean the defaults.

    `serving` ties it to the serving node, for tasks whose files are only there.
    """
    asked = resources or TesResources()
    chosen = choices_of(resources, settings)
    return Shape(
        cpus=chosen.cpus,
        memory=chosen.memory,
        disk_gb=chosen.disk / GB,
        zones=tuple(sorted(set(asked.zones or ()))),
        on_demand=asked.preemptible is False,
        serving=serving,
        gpus=chosen.gpu_count,
        gpu_type=chosen.gpu_type,
    )


@dataclass(frozen=True, slots=True)
class Node:
    """A living node of the cluster and all that it has."""

    id: str  # in hexadecimal
    cpus: float
    memory: int  # bytes
    disk_gb: float | None = None  # None: not declared, so not counted
    zone: str = ""
    spot: bool = False
    serving: bool = False
    gpus: float = 0.0
    gpu_type: str = ""
    name: str = ""  # its hostname
    address: str = ""
    looked_at: bool = True  # else no task is begun there yet
    closed: str = ""  # why no task is begun there now, in a person's words; empty: it may be

    def could_hold(self, shape: Shape) -> bool:
        """Whether the shape fits on this node when nothing else is there."""
        return self.suits(shape) and fits(shape, self.cpus, self.memory, self.disk_gb, self.gpus)

    def spares(self, shape: Shape) -> bool:
        """Whether so much memory and disk is there for that many CPUs anyway, so that it is the
        CPUs that run out first."""
        share = shape.cpus / self.cpus if self.cpus else 0.0
        return shape.memory <= share * self.memory and (
            self.disk_gb is None or shape.disk_gb <= share * self.disk_gb
        )

    def suits(self, shape: Shape) -> bool:
        """Whether the node is of the kind that the shape asks for, whatever its size."""
        return (
            (not shape.zones or self.zone in shape.zones)
            and not (shape.on_demand and self.spot)
            and (not shape.serving or self.serving)
            and (not shape.gpu_type or self.gpu_type == shape.gpu_type)
        )

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} CPUs", f"{self.memory / GB:.1f} GB of memory"]
        if self.gpus:
            parts.append(_gpus(self.gpus, self.gpu_type))
        return " and ".join(parts)


def with_disk(nodes: Iterable[Node]) -> tuple[list[Node], bool]:
    """The nodes with the disk that Ray counts on them, and whether it counts disk at all.

    As soon as one declares disk, runners ask Ray for it, and nodes that declare none have none.
    """
    found = list(nodes)
    declared = any(node.disk_gb is not None for node in found)
    if declared:
        found = [replace(node, disk_gb=node.disk_gb or 0.0) for node in found]
    return found, declared


def fits(shape: Shape, cpus: float, memory: int, disk_gb: float | None, gpus: float) -> bool:
    """Whether the shape fits into so much."""
    return (
        shape.cpus <= cpus
        and shape.memory <= memory
        and (disk_gb is None or shape.disk_gb <= disk_gb)
        and shape.gpus <= gpus
    )


def _gpus(count: float, kind: str) -> str:
    return f"{count:g} {kind}{' ' * bool(kind)}GPU{'s' * (count != 1)}"
