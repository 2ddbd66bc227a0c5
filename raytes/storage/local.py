"""Copying inputs in from the node's own filesystems."""

import fcntl
import os
import re
import shutil
import stat
import threading
from pathlib import Path

from raytes.errors import Canceled, InputFailed
from raytes.models import TesFileType
from raytes.storage import errnos
from raytes.storage.below import entered, held
from raytes.storage.progress import Progress

_CHUNK = 4 * 2**20
"""Bytes copied between two looks at `stop`; a slow disk moves them within a second."""

_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file (btrfs, XFS, …)

_HELD = re.compile("^/proc/self/fd/[0-9]+/?")
"""What the name of a file begins with of which a directory is held open."""


def copy_in(
    source: Path, destination: Path, stop: threading.Event, progress: Progress | None = None
) -> TesFileType:
    """Copies a file or a tree to `destination`, sharing blocks where the filesystem can.

    `source` is without links; one that is on the way to it by now isn't followed. Links inside a
    tree are copied as links, as they would appear under a mount; sockets, FIFOs and devices are
    left out. Links that are at `destination` aren't followed.

    Raises:
        InputFailed: it isn't there, or can't be read or written.
        Canceled: `stop` was set.
    """
    progress = progress or Progress()
    try:
        with held(source.parent) as parent:
            original = parent / source.name
            mode = original.lstat().st_mode
            if stat.S_ISREG(mode):
                copy_file(original, destination, stop, progress)
                return TesFileType.FILE
            if stat.S_ISDIR(mode):
                _copy_tree(original, destination, stop, progress)
                return TesFileType.DIRECTORY
    except OSError as error:
        raise _input_failed(source, error) from error
    except RecursionError:
        raise InputFailed(
            f"the input {source} can't be copied: its directories are nested too deeply"
        ) from None
    raise InputFailed(f"{source} is neither a file nor a directory")


def copy_file(source: Path, destination: Path, stop: threading.Event, progress: Progress) -> None:
    """Copies a regular file with its mode and times, sharing blocks where that can be.

    Raises:
        OSError: it can't be read or written.
        Canceled: `stop` was set.
    """
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # Never into what is there: it may be an entry of the cache by another name.
        destination.unlink(missing_ok=True)
        with destination.open("xb") as copy:
            copy_bytes(descriptor, copy.fileno(), stop, progress)
    finally:
        os.close(descriptor)
    shutil.copystat(source, destination, follow_symlinks=False)


def copy_bytes(source: int, target: int, stop: threading.Event, progress: Progress) -> None:
    """Copies what is left of one open file into another, sharing blocks where that can be.

    Raises:
        OSError: it can't be read or written.
        Canceled: `stop` was set.
    """
    transfer = progress.begin()
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:  # another filesystem, or one that can't share blocks
        while count := os.sendfile(target, source, None, _CHUNK):
            transfer.moved(count)
            if stop.is_set():
                raise Canceled("canceled while a file was being copied") from None
    transfer.done()


def words(error: OSError) -> str:
    """What the kernel said, and of which file."""
    named = error.filename if isinstance(error.filename, str) else ""
    named = _HELD.sub("", named)
    return f"{error.strerror or error}{f' ({named})' if named else ''}"


def _copy_tree(source: Path, destination: Path, stop: threading.Event, progress: Progress) -> None:
    with (
        held(source, below=source.parent) as original,
        entered(destination.parent, Path(destination.name)) as directory,
    ):
        with os.scandir(original) as children:
            for child in children:
                target = directory / child.name
                if child.is_symlink():
                    target.symlink_to(os.readlink(child.path))
                elif child.is_dir(follow_symlinks=False):
                    _copy_tree(Path(child.path), target, stop, progress)
                elif child.is_file(follow_symlinks=False):
                    copy_file(Path(child.path), target, stop, progress)
        shutil.copystat(original, directory)


def _input_failed(source: Path, error: OSError) -> InputFailed:
    if isinstance(error, FileNotFoundError) and not os.path.lexists(source):
        return InputFailed(f"the input {source} doesn't exist")
    failed = InputFailed(f"the input {source} can't be copied: {words(error)}")
    failed.transient = error.errno in errnos.PASSING_ELSEWHERE
    # What doesn't do it for another cause can also be the disk that the original lies on.
    failed.of_node = error.errno in errnos.FULL
    return failed
