"""Copying inputs in from the node's own filesystems."""

import fcntl
import os
import shutil
import stat
import threading
from pathlib import Path

from raytes.errors import Canceled, InputFailed
from raytes.models import TesFileType
from raytes.storage import errnos
from raytes.storage.below import entered
from raytes.storage.progress import Progress

_CHUNK = 4 * 2**20
"""Bytes copied between two looks at `stop`; a slow disk moves them within a second."""

_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file (btrfs, XFS, …)


def copy_in(
    source: Path, destination: Path, stop: threading.Event, progress: Progress | None = None
) -> TesFileType:
    """Copies a file or a tree to `destination`, sharing blocks where the filesystem can.

    Links inside a tree are copied as links, as they would appear under a mount; sockets,
    FIFOs and devices are left out. Links that are at `destination` aren't followed.

    Raises:
        InputFailed: it isn't there, or can't be read or written.
        Canceled: `stop` was set.
    """
    progress = progress or Progress()
    try:
        mode = source.stat().st_mode
        if stat.S_ISREG(mode):
            copy_file(source, destination, stop, progress)
            return TesFileType.FILE
        if stat.S_ISDIR(mode):
            _copy_tree(source, destination, stop, progress)
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
    named = isinstance(error.filename, str) and not error.filename.startswith("/proc/self/fd/")
    place = f" ({error.filename})" if named else ""
    return f"{error.strerror or error}{place}"


def _copy_tree(source: Path, destination: Path, stop: threading.Event, progress: Progress) -> None:
    with entered(destination.parent, Path(destination.name)) as directory:
        with os.scandir(source) as children:
            for child in children:
                target = directory / child.name
                if child.is_symlink():
                    target.symlink_to(os.readlink(child.path))
                elif child.is_dir(follow_symlinks=False):
                    _copy_tree(Path(child.path), target, stop, progress)
                elif child.is_file(follow_symlinks=False):
                    copy_file(Path(child.path), target, stop, progress)
        shutil.copystat(source, directory)


def _input_failed(source: Path, error: OSError) -> InputFailed:
    if isinstance(error, FileNotFoundError) and not os.path.lexists(source):
        return InputFailed(f"the input {source} doesn't exist")
    failed = InputFailed(f"the input {source} can't be copied: {words(error)}")
    failed.transient = error.errno in errnos.PASSING_ELSEWHERE
    # What doesn't do it for another cause can also be the disk that the original lies on.
    failed.of_node = error.errno in errnos.FULL
    return failed
