"""Where an executor's stdin, stdout and stderr lie on the node."""

import errno
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from raytes.errors import DiskFull, InputFailed, InvalidMounts, SystemFault
from raytes.models import TesExecutor
from raytes.runner.beneath import Namespace, Outside
from raytes.runner.mounts import Bind, MountPlan, normal
from raytes.runner.placing import parent_of
from raytes.storage import errnos
from raytes.storage.below import entered, opened
from raytes.storage.local import words

_BUFFER: Final = 256 * 2**10  # bytes
# There is a FIFO, a directory or a link, or its path can't be one: the task is at fault.
_NO_FILE: Final = {errno.ENXIO, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
_FILE_MODE: Final = 0o666  # a later executor's image may run as any user
_DIRECTORY_MODE: Final = 0o777


@dataclass(frozen=True, slots=True)
class Streams:
    """The files on the node of an executor's streams, as far as it names any."""

    stdin: BinaryIO | None
    stdout: BinaryIO | None
    stderr: BinaryIO | None


@contextmanager
def open_streams(
    executor: TesExecutor, plan: MountPlan, visible: Sequence[Bind]
) -> Iterator[Streams]:
    """The streams of an executor, open while in this block.

    Parameters:
        visible: all that can be found of the container's paths on the node now.

    Raises:
        InputFailed: stdin is not a file of the task, or can't be opened.
        InvalidMounts: stdout or stderr leads out of what is mounted, or through a link.
        SystemFault: stdout or stderr can't be written.
    """
    with ExitStack() as files:
        with _writing():
            stdin = _stdin(executor.stdin, visible, files)
            stdout = _open(executor.stdout, plan, files)
            stderr = _open(executor.stderr, plan, files)
        if stdout and stderr and os.path.sameopenfile(stdout.fileno(), stderr.fileno()):
            stderr = stdout  # also by another name
        try:
            yield Streams(stdin, stdout, stderr)
        except BaseException:
            with suppress(OSError):  # what has gone wrong first counts
                files.close()
            raise
        with _writing():
            files.close()


def written_streams(executor: TesExecutor, plan: MountPlan) -> list[Bind]:
    """The bind mounts by which later executors see what this one has written."""
    paths = {normal(path) for path in (executor.stdout, executor.stderr) if path}
    return [
        Bind(plan.streams[path], path, writable=False)
        for path in sorted(paths & plan.streams.keys())
    ]


@contextmanager
def _writing() -> Iterator[None]:
    """In this block, what the kernel refuses is the fault of a stream's file."""
    try:
        yield
    except OSError as error:
        raise unwritable(error) from error


def unwritable(error: OSError) -> SystemFault:
    """The fault for a stream's file that can't be written."""
    kind = SystemFault
    if error.errno in errnos.FULL:
        kind = DiskFull
    elif error.errno in _NO_FILE:
        kind = InvalidMounts
    return kind(f"an executor's stdout or stderr can't be written on the node: {words(error)}")


def unreadable(path: str, error: OSError) -> SystemFault:
    """The fault for a stdin that can't be read to its end."""
    return SystemFault(f"the stdin {path} can't be read on the node: {words(error)}")


def _stdin(path: str | None, visible: Sequence[Bind], stack: ExitStack) -> BinaryIO | None:
    if path is None:
        return None
    try:
        found = Namespace(visible).resolve(normal(path))
        file = opened(found) if found and found.is_file() else None
    except Outside:
        file = None
    except OSError as error:
        raise InputFailed(f"the stdin {path} can't be opened: {words(error)}") from error
    if file is None:
        raise InputFailed(
            f"the stdin {path} is not there: it must be a file among the inputs or in a volume, "
            "or an output, stdout or stderr of an earlier executor"
        )
    return stack.enter_context(file)


def _open(path: str | None, plan: MountPlan, stack: ExitStack) -> BinaryIO | None:
    if path is None:
        return None
    with _parent_of(normal(path), plan) as (parent, name):
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(parent / name, flags, _FILE_MODE)
    file = stack.enter_context(os.fdopen(descriptor, "wb", buffering=_BUFFER))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise InvalidMounts(f"the stdout or stderr {path} can't be written: it is no regular file")
    os.ftruncate(descriptor, 0)
    os.fchmod(descriptor, _FILE_MODE)
    return file


@contextmanager
def _parent_of(path: str, plan: MountPlan) -> Iterator[tuple[Path, str]]:
    """Where a stream's file is to be, and its name there."""
    if path in plan.streams:
        file = plan.streams[path]
        file.parent.mkdir(exist_ok=True)
        yield file.parent, file.name
    else:
        file = _target(path, plan)
        with parent_of(file) as parent:
            yield parent, file.name


def _target(path: str, plan: MountPlan) -> Path:
    # Only what is writable: a link must not lead to an input's original.
    namespace = Namespace(bind for bind in plan.binds if bind.writable)
    try:
        if found := namespace.resolve(path):
            return found
        directory = _make_directory(posixpath.dirname(path), namespace, plan)
        return directory / posixpath.basename(path)
    except Outside as error:
        raise InvalidMounts(f"the stdout or stderr {path} can't be written: {error}") from error


def _make_directory(path: str, namespace: Namespace, plan: MountPlan) -> Path:
    found = namespace.resolve(path)
    if found is None:
        above = _make_directory(posixpath.dirname(path), namespace, plan)
        found = above / posixpath.basename(path)
        with parent_of(found) as parent, entered(parent, Path(found.name)) as directory:
            directory.chmod(_DIRECTORY_MODE)
    return found
