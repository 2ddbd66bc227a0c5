"""Stage-in: the inputs of a task brought to where the mount plan wants them."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path

from raytes.config import Settings
from raytes.errors import InputFailed, InvalidMounts
from raytes.models import TesFileType, TesInput, TesTask
from raytes.runner.mounts import MountPlan, Original
from raytes.storage import Storage

_WORLD_WRITABLE = 0o777  # an image may run as any user


def find_originals(task: TesTask, storage: Storage, settings: Settings) -> dict[int, Original]:
    """The `file://` inputs of a task as they lie on this node, by index.

    Raises:
        InputFailed: one isn't there, or is neither a file nor a directory.
        ForbiddenURL: one lies outside the allowed roots.
    """
    originals: dict[int, Original] = {}
    for i, one in enumerate(task.inputs or []):
        if one.content or not one.url:
            continue
        path = storage.local_path(one.url)
        if path is not None:
            originals[i] = _original(path, settings)
    return originals


def make_directories(plan: MountPlan) -> None:
    """Make the directories that the plan wants, for everybody to write in."""
    for directory in plan.directories:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(_WORLD_WRITABLE)


def stage_in(
    task: TesTask,
    plan: MountPlan,
    originals: Mapping[int, Original],
    storage: Storage,
    stop: threading.Event,
) -> dict[int, TesFileType]:
    """Bring what isn't there yet; returns what each input turned out to be, by index.

    Raises:
        InputFailed: an input isn't there, can't be read, or the transfer failed.
        ForbiddenURL: a URL is not one that the service may read.
        InvalidMounts: a file is to lie where other paths of the task need a directory.
        Canceled: `stop` was set.
    """
    inputs = task.inputs or []
    types = {
        i: TesFileType.DIRECTORY if original.directory else TesFileType.FILE
        for i, original in originals.items()
    }
    # Outer directories first: what lies in them comes on top.
    for i in sorted(plan.staged, key=lambda i: (inputs[i].path.rstrip("/").count("/"), i)):
        types[i] = _stage(inputs[i], plan.staged[i], storage, stop)
    make_directories(plan)  # again: a copied directory brings a mode of its own
    return types


def _stage(
    one: TesInput, destination: Path, storage: Storage, stop: threading.Event
) -> TesFileType:
    destination.parent.mkdir(parents=True, exist_ok=True)
    was_directory = destination.is_dir()
    if one.content or not one.url:
        if was_directory:
            raise _file_for_directory(one)
        destination.write_text(one.content or "", encoding="utf-8", newline="")
        return TesFileType.FILE
    try:
        found = storage.fetch(one.url, one.type, destination, stop)
    except InputFailed as error:
        if was_directory and isinstance(error.__cause__, IsADirectoryError):
            raise _file_for_directory(one) from error
        raise
    return found


def _file_for_directory(one: TesInput) -> InvalidMounts:
    return InvalidMounts(
        f"the input {one.path} is a file, but other paths of the task need a directory there"
    )


def _original(path: Path, settings: Settings) -> Original:
    if not path.exists():
        raise InputFailed(f"the input {path} doesn't exist on node {os.uname().nodename}")
    if not (path.is_file() or path.is_dir()):
        raise InputFailed(f"the input {path} is neither a file nor a directory")
    writable = any(
        root.rw and path.is_relative_to(root.path.resolve()) for root in settings.local_root
    )
    return Original(path, directory=path.is_dir(), writable=writable)
