"""Stage-in: the inputs of a task brought to where the mount plan wants them."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raytes.config import Settings
from raytes.errors import InputFailed, InvalidMounts
from raytes.models import TesFileType, TesInput, TesTask
from raytes.runner.concurrently import concurrently
from raytes.runner.mounts import MountPlan, Original
from raytes.storage import Audience, Progress, Storage
from raytes.unicode import is_unicode

_WORLD_WRITABLE = 0o777  # an image may run as any user
_AT_ONCE = 8  # inputs of one task; each of them may be a directory


@dataclass(slots=True)
class StagedIn:
    """What became of the inputs of a task."""

    types: dict[int, TesFileType]
    """What each turned out to be, by index."""
    fetched: int = 0
    """Files that came from other places than this node."""
    fetched_bytes: int = 0
    """What was moved for them."""
    cached: int = 0
    """How many of them the node's cache had already."""
    cached_bytes: int = 0

    @property
    def cache(self) -> str | None:
        """`hit`, `miss` or `partial`; None: there was nothing that could have been cached."""
        if not self.fetched:
            return None
        if self.cached == self.fetched:
            return "hit"
        return "partial" if self.cached else "miss"


def find_originals(task: TesTask, storage: Storage, settings: Settings) -> dict[int, Original]:
    """The `file://` inputs of a task as they lie on this node, by index.

    Raises:
        InputFailed: one isn't there, or is neither a file nor a directory.
        ForbiddenURL: one lies outside the allowed roots.
    """
    originals: dict[int, Original] = {}
    for i, one in enumerate(task.inputs or []):
        path = storage.local_path(url) if (url := _url_of(one)) else None
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
    audience: Audience,
) -> StagedIn:
    """Bring what isn't there yet; `audience` is told of what takes long.

    Raises:
        InputFailed: an input isn't there, can't be read, or the transfer failed.
        ForbiddenURL: a URL is not one that the service may read.
        InvalidMounts: a file is to lie where other paths of the task need a directory.
        Canceled: `stop` was set.
    """
    inputs = task.inputs or []
    staged = StagedIn(
        {
            i: TesFileType.DIRECTORY if original.directory else TesFileType.FILE
            for i, original in originals.items()
        }
    )
    read_only = {bind.source for bind in plan.binds if not bind.writable}
    remote = [i for i in plan.staged if i not in originals and _url_of(inputs[i])]
    what = f"the input {inputs[remote[0]].path}" if len(remote) == 1 else "the inputs"
    fetching = Progress(what, audience, parts=len(remote))

    def stage(i: int, stop: threading.Event) -> None:
        progress = fetching if i in remote else Progress(f"the input {inputs[i].path}", audience)
        destination = plan.staged[i]
        staged.types[i] = _stage(
            inputs[i], destination, storage, stop, progress, read_only=destination in read_only
        )
        if i not in remote:
            progress.end()

    for layer in _layers(plan.staged):
        concurrently(layer, stage, stop, limit=_AT_ONCE)
    fetching.end()
    staged.fetched, staged.fetched_bytes = fetching.files, fetching.moved
    staged.cached, staged.cached_bytes = fetching.cached, fetching.cached_bytes
    make_directories(plan)  # again: a copied directory brings a mode of its own
    return staged


def bytes_of_inputs(plan: MountPlan, originals: Mapping[int, Original]) -> int:
    """How large the inputs are, in bytes, but for directories that are read where they are."""
    staged = sum(map(_size, plan.staged.values()))
    files = (one.path for i, one in originals.items() if i not in plan.staged and not one.directory)
    return staged + sum(path.stat().st_size for path in files)


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(
        (Path(parent) / name).lstat().st_size
        for parent, _, names in os.walk(path)
        for name in names
    )


def _layers(staged: Mapping[int, Path]) -> Iterator[Sequence[int]]:
    """Inputs that can be brought at once: what lies in a directory comes on top of it, after it."""
    places = set(staged.values())
    depths = {i: sum(parent in places for parent in path.parents) for i, path in staged.items()}
    for depth in sorted(set(depths.values())):
        yield [i for i in staged if depths[i] == depth]


def _stage(
    one: TesInput,
    destination: Path,
    storage: Storage,
    stop: threading.Event,
    progress: Progress,
    *,
    read_only: bool,
) -> TesFileType:
    destination.parent.mkdir(parents=True, exist_ok=True)
    was_directory = destination.is_dir()
    url = _url_of(one)
    if url is None:
        if was_directory:
            raise _file_for_directory(one)
        # Never into what is there: it may be an entry of the node's cache by another name.
        destination.unlink(missing_ok=True)
        destination.write_text(one.content or "", encoding="utf-8", newline="")
        return TesFileType.FILE
    try:
        found = storage.fetch(
            url, one.type, destination, stop, read_only=read_only, progress=progress
        )
    except InputFailed as error:
        if was_directory and isinstance(error.__cause__, IsADirectoryError):
            raise _file_for_directory(one) from error
        raise
    return found


def _url_of(one: TesInput) -> str | None:
    """Where an input comes from; None: it stands in the document."""
    return None if one.content else one.url or None


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
    if writable and path.is_dir() and not is_unicode(str(path)):
        raise InputFailed(
            f"the input {path} lies in a writable root and can't be mounted, because its path is "
            "not UTF-8; rename it"
        )
    return Original(path, directory=path.is_dir(), writable=writable)
