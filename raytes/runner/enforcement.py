"""Which limits this node can put on containers, and what it says where it can't."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from raytes.runner import metadata_service

_LIMITS: Final = {"memory": "memory", "cpu": "CPUs", "pids": "processes"}


@dataclass(frozen=True, slots=True)
class Enforcement:
    """What of a node's limits is real."""

    controllers: frozenset[str]  # of memory, cpu, pids: those that Podman can use
    shortcomings: tuple[str, ...]  # a sentence each, for a person


def enforcement_of(info: Mapping[str, Any]) -> Enforcement:
    """What follows from Podman's `info`."""
    host = info["host"]
    rootless, version = host["security"]["rootless"], host["cgroupVersion"]
    if rootless and version == "v1":
        controllers = frozenset[str]()
    else:
        controllers = frozenset(_LIMITS) & frozenset(host.get("cgroupControllers") or ())
    shortcomings = (
        *_limits_missing(controllers, rootless, version),
        *_watches_missing(info["store"]["graphDriverName"]),
    )
    return Enforcement(controllers, shortcomings)


def _limits_missing(controllers: frozenset[str], rootless: bool, version: str) -> Iterator[str]:
    missing = [words for name, words in _LIMITS.items() if name not in controllers]
    if missing:
        yield (
            f"this node can't limit what containers use of {', '.join(missing)}: "
            f"{_cause(rootless, version)}"
        )


def _watches_missing(storage_driver: str) -> Iterator[str]:
    if storage_driver == "vfs":
        yield (
            "this node can't see how much containers write into their own filesystems, and "
            "resources.disk_gb doesn't count it: Podman's storage driver is vfs; use overlay"
        )
    if not metadata_service.can_be_kept_away():
        yield (
            "this node can't keep containers away from a cloud's metadata service: "
            "install iproute2 and util-linux"
        )


def _cause(rootless: bool, version: str) -> str:
    if not rootless:
        return "its kernel has no such cgroup controllers"
    if version == "v1":
        return "rootless Podman needs cgroup v2 for that"
    return "systemd has not delegated these cgroup controllers to the user (Delegate=yes)"
