"""Where an executor's stdin, stdout and stderr lie on the node."""

import errno
import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from raytes.errors import DiskFull, InputFailed, InvalidMounts, SystemFault
from raytes.models import TesExecutor
from raytes.runner.beneath import Namespace, Outside
from raytes.runner.mounts import Bind, MountPlan, normal

_BUFFER: Final = 256 * 2**10  # bytes
_FILE_MODE: Final = 0o666  # a later executor's image may run as any user
_DIRECTORY_MODE: Final = 0o777


@dataclass(frozen=True, slots=True)
class Streams:
    """The files on the node of an executor's streams, as far as it names any."""

    stdin: Path | None
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
        InputFailed: stdin is not a file of the task.
        InvalidMounts: stdout or stderr leads out of what is mounted.
        SystemFault: stdout or stderr can't be written.
    """
    stdin = _stdin(executor.stdin, visible) if executor.stdin else None
    try:
        with ExitStack() as stack:
            stdout = _open(executor.stdout, plan, stack)
            stderr = stdout
            if executor.stderr != executor.stdout:
                stderr = _open(executor.stderr, plan, stack)
            yield Streams(stdin, stdout, stderr)
    except OSError as error:
        raise unwritable(error) from error


def written_streams(executor: TesExecutor, plan: MountPlan) -> list[Bind]:
    """The bind mounts by which later executors see what this one has written."""
    paths = {normal(path) for path in (executor.stdout, executor.stderr) if path}
    return [
        Bind(plan.streams[path], path, writable=False)
        for path in sorted(paths & plan.streams.keys())
    ]


def unwritable(error: OSError) -> SystemFault:
    """The fault for a stream's file that can't be written."""
    kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else SystemFault
    return kind(f"an executor's stdout or stderr can't be written on the node: {error}")


def _stdin(path: str, visible: Sequence[Bind]) -> Path:
    try:
        found = Namespace(visible).resolve(normal(path))
    except Outside:
        found = None
    if found is None or not found.is_file():
        raise InputFailed(
            f"the stdin {path} is not there: it must be a file among the inputs or in a volume, "
            "or an output, stdout or stderr of an earlier executor"
        )
    return found


def _open(path: str | None, plan: MountPlan, stack: ExitStack) -> BinaryIO | None:
    if path is None:
        return None
    target = _target(normal(path), plan)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(target, flags, _FILE_MODE)
    os.fchmod(descriptor, _FILE_MODE)
    return stack.enter_context(os.fdopen(descriptor, "wb", buffering=_BUFFER))


def _target(path: str, plan: MountPlan) -> Path:
    if path in plan.streams:
        plan.streams[path].parent.mkdir(exist_ok=True)
        return plan.streams[path]
    # Only what is writable: a link must not lead to an input's original.
    namespace = Namespace(bind for bind in plan.binds if bind.writable)
    try:
        found = namespace.resolve(path)
        return found or _make_directory(posixpath.dirname(path), namespace) / posixpath.basename(
            path
        )
    except Outside as error:
        raise InvalidMounts(f"the stdout or stderr {path} can't be written: {error}") from error


def _make_directory(path: str, namespace: Namespace) -> Path:
    found = namespace.resolve(path)
    if found is None:
        found = _make_directory(posixpath.dirname(path), namespace) / posixpath.basename(path)
        found.mkdir()
        found.chmod(_DIRECTORY_MODE)
    return found
