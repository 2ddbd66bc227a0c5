"""What dead runners left on this node, found and removed."""

import logging
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from raytes.config import Settings
from raytes.errors import ContainerRefused
from raytes.runner.conmon import end_forgotten
from raytes.runner.owner import claim_dead, is_alive
from raytes.runner.podman import Engine
from raytes.runner.service import PodmanService

logger = logging.getLogger(__name__)


def sweep(settings: Settings, instance: str) -> list[str]:
    """Remove an instance's containers and scratch on this node that no living runner owns.

    Returns a line for each thing that was removed.

    Raises:
        PodmanUnavailable: Podman doesn't answer.
    """
    settings = settings.on_this_node()
    service = PodmanService(settings, instance)
    try:
        return sweep_with(service.engine(), settings, instance)
    finally:
        service.release()


def sweep_with(engine: Engine, settings: Settings, instance: str) -> list[str]:
    """`sweep` with an engine that is there already.

    A container or a directory that can't be removed is left to the next one.
    """
    removed = _sweep_containers(engine, instance) + end_forgotten(engine)
    for directory in claim_dead(instance_directory(settings, instance)):
        try:
            remove_tree(directory)
        except OSError as error:
            logger.warning("%s can't be removed now: %s", directory, error)
        else:
            removed.append("a scratch directory")
    return removed


def instance_directory(settings: Settings, instance: str) -> Path:
    """Where this node keeps what the runners of a service instance own."""
    return settings.scratch / instance


def remove_tree(directory: Path) -> None:
    """Remove a directory of scratch, also what a container's users made in it, however deep.

    Raises:
        OSError: it can't be removed.
    """
    with suppress(OSError, RecursionError):  # it recurses, and opens a file at each level
        shutil.rmtree(directory)
    if not directory.exists():
        return
    command = ["rm", "--recursive", "--force", "--", str(directory)]
    if os.geteuid() != 0:
        unshare(*command)
    removed = subprocess.run(command, check=False, capture_output=True, text=True)
    if directory.exists():
        raise OSError(removed.stderr.strip().rpartition("\n")[2] or "rm has left it there")


def unshare(*command: str) -> bytes:
    """Run a command as the root of rootless Podman's user namespace; returns its stdout.

    There the files of a container's users, which belong to subordinate ids, can be touched.
    """
    command = ("podman", "unshare", *command)
    try:
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True)
    except FileNotFoundError:  # only the socket of a Podman elsewhere is here
        return b""
    return done.stdout


def _sweep_containers(engine: Engine, instance: str) -> list[str]:
    removed: list[str] = []
    for container in engine.containers([f"raytes.instance={instance}"]):
        labels = container["Labels"]
        if is_alive(Path(labels.get("raytes.owner", ""))):
            continue
        try:
            engine.remove(container["Id"])
        except ContainerRefused as refusal:
            logger.warning("%s can't be removed now: %s", container["Id"], refusal)
        else:
            removed.append(f"container {container['Id'][:12]} of task {labels.get('raytes.task')}")
    return removed
