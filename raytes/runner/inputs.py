"""Stage-in: the inputs of a task brought to where the mount plan wants them.

What an image or another input has left there may hold links; none of them is followed.
"""

import errno
import os
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from raytes.config import Settings
from raytes.errors import InputFailed, InvalidMounts
from raytes.models import TesFileType, TesInput, TesTask
from raytes.runner.concurrently import concurrently
from raytes.runner.mounts import MountPlan, Original, normal
from raytes.runner.placing import parent_of
from raytes.runner.scan import statuses_below
from raytes.storage import Audience, Progress, Storage
from raytes.storage.below import ThroughLink, entered
from raytes.storage.local import words
from raytes.unicode import is_unicode

_WORLD_WRITABLE = 0o777  # an image may run as any user
_FILE_FOR_EVERYBODY = 0o666
_NO_PLACE = {errno.ENOTDIR, errno.ENAMETOOLONG}  # the task's paths are at fault
_REFUSED = {errno.EPERM, errno.EACCES, errno.EROFS}
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
        InputFailed: one isn't there, can't be looked at, or is neither a file nor a directory.
        ForbiddenURL: one lies outside the allowed roots.
    """
    originals: dict[int, Original] = {}
    for i, one in enumerate(task.inputs or []):
        path = storage.local_path(url) if (url := _url_of(one)) else None
        if path is not None:
            try:
                originals[i] = _original(path, settings)
            except OSError as error:
                raise InputFailed(f"the input {path} can't be read: {words(error)}") from error
    return originals


def make_directories(plan: MountPlan) -> None:
    """Make the directories that the plan wants, for everybody to write in.

    What is there already in a user's own directory keeps its mode.

    Raises:
        InvalidMounts: a file or a link is where one of them, or a directory above it, is wanted,
            or the service may not make it in a user's own directory.
    """
    for directory in plan.directories:
        _make_directory(plan, directory)


def make_where_missing(plan: MountPlan, path: str) -> None:
    """Make a directory at a container path, for everybody to write in, if that lies in what the
    task may write to. What is there keeps its mode, and a user's own directory is let alone.

    Raises:
        InvalidMounts: as `make_directories`.
    """
    place = plan.located(path)
    if place is None or place in plan.streams.values():
        return
    bind = plan.bind_of(place)
    if bind.writable and not bind.exposed and not os.path.lexists(place):
        _make_directory(plan, place)


def make_workdir(plan: MountPlan, workdir: str) -> None:
    """Make an executor's workdir as `make_where_missing` does.

    Podman would make it root's. It still makes, or refuses, what can't be made without following
    a link.
    """
    with suppress(InvalidMounts, OSError):
        make_where_missing(plan, normal(workdir))


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
        InvalidMounts: a file is to lie where other paths of the task need a directory, or the
            way to where it is to lie leads through a link.
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
        place = plan.staged[i]
        with (
            _placing(f"the input {inputs[i].path}"),
            parent_of(place) as parent,
        ):
            staged.types[i] = _stage(
                inputs[i],
                parent / place.name,
                storage,
                stop,
                progress,
                read_only=place in read_only,
            )
            if place not in read_only:
                _let_everybody_write(parent / place.name)
        if i not in remote:
            progress.end()

    for layer in _layers(plan.staged):
        concurrently(layer, stage, stop, limit=_AT_ONCE)
    fetching.end()
    staged.fetched, staged.fetched_bytes = fetching.files, fetching.moved
    staged.cached, staged.cached_bytes = fetching.cached, fetching.cached_bytes
    make_directories(plan)  # again: a copied directory brings a mode of its own
    return staged


def _make_directory(plan: MountPlan, directory: Path) -> None:
    what, is_users_own = plan.shown(directory), plan.bind_of(directory).exposed
    with _placing(what), _making(what, is_users_own), parent_of(directory) as parent:
        keeps_mode = is_users_own and os.path.lexists(parent / directory.name)
        with entered(parent, Path(directory.name)) as place:
            if not keeps_mode:
                place.chmod(_WORLD_WRITABLE)


def bytes_of_inputs(plan: MountPlan, originals: Mapping[int, Original]) -> int:
    """How large the inputs are, in bytes, but for directories that are read where they are."""
    staged = sum(map(_size, plan.staged.values()))
    mounted = (one for i, one in originals.items() if i not in plan.staged and not one.directory)
    return staged + sum(one.size for one in mounted)


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    below = statuses_below(path)
    return sum(status.st_size for status in below if not stat.S_ISDIR(status.st_mode))


def _layers(staged: Mapping[int, Path]) -> Iterator[Sequence[int]]:
    """Inputs that can be brought at once: what lies in another, or in its place, comes after it."""
    layers: list[list[int]] = []
    depths: dict[Path, int] = {}
    for i in sorted(staged, key=lambda i: len(staged[i].parts)):
        place = staged[i]
        depth = max(
            (depths[one] + 1 for one in (place, *place.parents) if one in depths), default=0
        )
        depths[place] = depth
        layers += [[]] if depth == len(layers) else []
        layers[depth].append(i)
    yield from layers


@contextmanager
def _placing(what: str) -> Iterator[None]:
    """In this block, what the kernel says of the paths that the task has chosen is said to it."""
    try:
        yield
    except (InputFailed, OSError) as error:
        cause = error.__cause__ if isinstance(error, InputFailed) else error
        if isinstance(cause, ThroughLink):
            raise InvalidMounts(
                f"{what} can't be placed: its path leads through a link ({cause.filename}), which "
                "the image or another input has there; use the path that the link leads to"
            ) from error
        if isinstance(cause, IsADirectoryError):
            raise InvalidMounts(
                f"{what} is a file, but other paths of the task need a directory there"
            ) from error
        if isinstance(error, OSError) and error.errno in _NO_PLACE:
            raise InvalidMounts(f"{what} can't be placed: {error.strerror}") from error
        raise


@contextmanager
def _making(what: str, is_users_own: bool) -> Iterator[None]:
    """In this block, a user's own directory that the service may not change isn't the node's."""
    try:
        yield
    except OSError as error:
        if not (is_users_own and error.errno in _REFUSED):
            raise
        raise InvalidMounts(
            f"{what} can't be made in the input that it lies in, a directory of a local root with "
            f"rw: {error.strerror}; make it there beforehand, or let the service write there"
        ) from error


def _stage(
    one: TesInput,
    destination: Path,
    storage: Storage,
    stop: threading.Event,
    progress: Progress,
    *,
    read_only: bool,
) -> TesFileType:
    url = _url_of(one)
    if url is None:
        # Never into what is there: it may be an entry of the node's cache by another name.
        destination.unlink(missing_ok=True)
        with destination.open("x", encoding="utf-8", newline="") as file:
            file.write(one.content or "")
        return TesFileType.FILE
    return storage.fetch(url, one.type, destination, stop, read_only=read_only, progress=progress)


def _let_everybody_write(copy: Path) -> None:
    """Let whatever user an image runs as change a copy, and what is in it."""
    _open_to_everybody(str(copy))
    for _, directories, files, at in os.fwalk(copy):
        for name in (*directories, *files):
            _open_to_everybody(name, at)


def _open_to_everybody(name: str, directory: int | None = None) -> None:
    mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    if not stat.S_ISLNK(mode):
        bits = _WORLD_WRITABLE if stat.S_ISDIR(mode) else _FILE_FOR_EVERYBODY
        os.chmod(name, stat.S_IMODE(mode) | bits, dir_fd=directory)


def _url_of(one: TesInput) -> str | None:
    """Where an input comes from; None: it stands in the document."""
    return None if one.content else one.url or None


def _original(path: Path, settings: Settings) -> Original:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise InputFailed(f"the input {path} doesn't exist on node {os.uname().nodename}") from None
    directory = stat.S_ISDIR(status.st_mode)
    if not (directory or stat.S_ISREG(status.st_mode)):
        raise InputFailed(f"the input {path} is neither a file nor a directory")
    exposed = any(
        root.rw and path.is_relative_to(root.path.resolve()) for root in settings.local_root
    )
    if exposed and directory and not is_unicode(str(path)):
        raise InputFailed(
            f"the input {path} lies in a writable root and can't be mounted, because its path is "
            "not UTF-8; rename it"
        )
    return Original(path, directory=directory, exposed=exposed, size=status.st_size)
