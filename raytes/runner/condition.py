"""What a node has for tasks, and what it can't do for them: looked at on the node itself."""

import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import raytes
from raytes.config import GB, Settings
from raytes.errors import PodmanUnavailable
from raytes.runner.enforcement import enforcement_of
from raytes.runner.service import PodmanService
from raytes.storage import errnos

# A disk is said to be low below both: a share alone would be much of a large one, and bytes
# alone all of a small one.
_LOW_SHARE: Final = 0.05
_LOW_BYTES: Final = 10 * GB
# So much is written to see whether a disk takes anything: more than what a full one may still.
_TRIED_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class Condition:
    """A node as it was when it was looked at."""

    raytes: str | None  # the version that is installed there; None: none can be run there
    podman: str | None  # its version; None: none answers, and no task can be run
    scratch_free: int | None  # bytes, where tasks' files go; None: nobody could look
    shortcomings: tuple[str, ...]  # a sentence each, for a person
    fault: str = ""  # the one of them for which no task can be run here, if there is one


def examine(settings: Settings, instance: str, version: str) -> Condition:
    """Look at this node, of a service of that version of raytes.

    Starts a Podman service if there is none, and lets go of it again.
    """
    settings = settings.on_this_node()
    service = PodmanService(settings, instance)
    fault, shortcomings = _of_another(version) or _unwritable(settings.scratch), []
    try:
        info = _info(service)
    except PodmanUnavailable as error:
        podman, fault = None, str(error)
    else:
        podman, images = str(info["version"]["Version"]), Path(info["store"]["graphRoot"])
        fault = fault or _full(images)
        shortcomings = [*enforcement_of(info).shortcomings]
        disks = settings.scratch, images
        shortcomings += [line for disk in _filesystems(disks) if (line := _low(disk))]
    finally:
        service.release()
    if fault:
        shortcomings.insert(0, fault)
    return Condition(
        raytes.__version__,
        podman,
        shutil.disk_usage(_existing(settings.scratch)).free,
        tuple(shortcomings),
        fault,
    )


def is_low(free: int, total: int) -> bool:
    """Whether a disk with so many bytes is nearly full."""
    return free < min(_LOW_BYTES, _LOW_SHARE * total)


def out_of_reach(cause: str) -> Condition:
    """The condition of a node on which nothing of raytes can be run."""
    sentence = (
        f"raytes can't be run on this node ({cause}): install raytes {raytes.__version__} in the "
        "environment that Ray runs in there"
    )
    return Condition(None, None, None, (sentence,), sentence)


def _info(service: PodmanService) -> dict[str, Any]:
    """What the node's Podman says of itself, if need be by a service that is started anew: no
    node is ill because the one before was killed at this moment."""
    engine = service.engine()
    try:
        return engine.info()
    except PodmanUnavailable:
        return service.engine().info()


def _of_another(version: str) -> str:
    """Why runners of a service of that version can't be on this node; empty: they can."""
    if version == raytes.__version__:
        return ""
    return (
        f"this node has raytes {raytes.__version__} and the service is {version}: install that "
        "on both"
    )


def _unwritable(scratch: Path) -> str:
    """Why tasks' files can't be written on this node; empty: they can."""
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        _try_to_write(scratch)
    except OSError as error:
        return (
            f"tasks' files can't be written at {scratch} on this node ({error.strerror}): make "
            "room there, or choose another place with scratch_dir"
        )
    return ""


def _full(images: Path) -> str:
    """Why Podman can't store images and containers there; empty: nothing says that it can't. Only
    a full disk does: a Podman of another user may write where this one may not."""
    try:
        _try_to_write(images)
    except OSError as error:
        if error.errno in errnos.FULL:
            return (
                f"Podman can't store images and containers at {images} on this node "
                f"({error.strerror}): make room there (`podman system df` says what takes it)"
            )
    return ""


def _try_to_write(directory: Path) -> None:
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(bytes(_TRIED_BYTES))
        file.flush()
        os.fsync(file.fileno())


def _filesystems(directories: Iterable[Path]) -> Iterable[Path]:
    """The directories as `_existing` has them; one for each filesystem."""
    existing = map(_existing, directories)
    return {path.stat().st_dev: path for path in existing}.values()


def _existing(path: Path) -> Path:
    """A path, or its nearest parent that is there, as far as this user may look."""
    return path if os.path.exists(path) else _existing(path.parent)


def _low(directory: Path) -> str | None:
    usage = shutil.disk_usage(directory)
    if not is_low(usage.free, usage.total):
        return None
    return (
        f"this node's disk is nearly full: {usage.free / GB:.1f} GB of {usage.total / GB:.0f} GB "
        f"are left at {directory}; tasks that need more will fail"
    )
