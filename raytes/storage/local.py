"""Files of the node's own filesystems: copying inputs in, publishing outputs.

Everything is done relative to directories that were opened component by component without
following a link, so that whoever swaps a directory for a link while we work gains nothing.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from raytes.errors import Canceled, InputFailed, OutputFailed
from raytes.models import TesFileType
from raytes.storage import urls
from raytes.storage.entries import Entry, Stored
from raytes.storage.policy import LocalTarget, Policy
from raytes.storage.progress import Progress

_CHUNK = 4 * 2**20
"""Bytes copied between two looks at `stop`; a slow disk moves them within a second."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file (btrfs, XFS, …)

_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}
"""What the kernel says where a file can't be had in another directory without copying it."""


def copy_in(
    source: Path, destination: Path, stop: threading.Event, progress: Progress | None = None
) -> TesFileType:
    """Copies a file or a tree to `destination`, sharing blocks where the filesystem can.

    Links inside a tree are copied as links, as they would appear under a mount; sockets,
    FIFOs and devices are left out.

    Raises:
        InputFailed: it isn't there, or can't be read or written.
        Canceled: `stop` was set.
    """
    progress = progress or Progress()
    try:
        mode = source.stat().st_mode
        if stat.S_ISREG(mode):
            destination.parent.mkdir(parents=True, exist_ok=True)
            copy_file(source, destination, stop, progress)
            return TesFileType.FILE
        if stat.S_ISDIR(mode):
            _copy_tree(source, destination, stop, progress)
            return TesFileType.DIRECTORY
    except OSError as error:
        raise _input_failed(source, error) from error
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
            _copy_bytes(descriptor, copy.fileno(), stop, progress)
    finally:
        os.close(descriptor)
    shutil.copystat(source, destination, follow_symlinks=False)


class LocalPublisher:
    """Puts the files of one output under its `file://` URL or bare path."""

    def __init__(
        self, policy: Policy, path: str, url: str, stop: threading.Event, progress: Progress
    ) -> None:
        self._policy = policy
        self._base = path
        self._url = url
        self._stop = stop
        self._progress = progress
        self._touched: dict[Path, LocalTarget] = {}

    def publish(self, entries: Sequence[Entry]) -> list[Stored]:
        """Each file appears whole or not at all, and is on disk when this returns.

        Raises:
            OutputFailed: a file can't be put there.
            ForbiddenURL: a directory on the way is a link out of the roots.
            Canceled: `stop` was set; files that were complete by then stay.
        """
        stored = []
        for entry in entries:
            if self._stop.is_set():
                raise Canceled("canceled while its outputs were being stored")
            url = urls.join(self._url, entry.relative)
            try:
                if entry.source is None:
                    self._make_directory(entry)
                else:
                    size = self._publish_file(entry.source, entry.relative)
                    stored.append(Stored(entry.relative, url, size))
            except OSError as error:
                raise _output_failed(url, error) from error
        try:
            self._flush_directories()
        except OSError as error:
            raise _output_failed(self._url, error) from error
        return stored

    def _make_directory(self, entry: Entry) -> None:
        target = self._policy.resolve(os.path.join(self._base, entry.relative))
        with _opened(target, create=True):
            self._touched[target.path] = target

    def _publish_file(self, source: Path, relative: str) -> int:
        target = self._policy.resolve(os.path.join(self._base, relative))
        parent = LocalTarget(target.root, target.path.parent, target.shared)
        if target.path == target.root or self._is_directory_url(relative):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with _opened(parent, create=True) as directory:
            self._touched[parent.path] = parent
            return self._place(source, directory, target.path.name)

    def _is_directory_url(self, relative: str) -> bool:
        return not relative and self._base.endswith("/")

    def _place(self, source: Path, directory: int, name: str) -> int:
        """Has `source` appear as `name` in one step, in place of what was there."""
        temporary = f".raytes-{secrets.token_hex(8)}"
        try:
            size = _materialize(source, directory, temporary, self._stop, self._progress)
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
            raise
        return size

    def _flush_directories(self) -> None:
        for target in self._touched.values():
            with _opened(target, create=False) as directory:
                os.fsync(directory)


@contextmanager
def _opened(target: LocalTarget, *, create: bool) -> Iterator[int]:
    """A descriptor of the directory `target`, whose path below its root holds no link."""
    current = os.open(target.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in target.path.relative_to(target.root).parts:
            if create and _make(name, current):
                os.fsync(current)
            below = os.open(name, _DIRECTORY, dir_fd=current)
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)


def _make(name: str, directory: int) -> bool:
    try:
        os.mkdir(name, dir_fd=directory)
    except FileExistsError:
        return False
    return True


def _materialize(
    source: Path, directory: int, name: str, stop: threading.Event, progress: Progress
) -> int:
    """Has the bytes of `source`, on disk and owned by this user, in a new file."""
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        mode = _plain_mode(os.fstat(descriptor).st_mode)
        if not _link(source, descriptor, directory, name, mode):
            with _created(directory, name, mode) as copy:
                _copy_bytes(descriptor, copy, stop, progress)
                os.fsync(copy)
        size = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    return size


def _link(source: Path, descriptor: int, directory: int, name: str, mode: int) -> bool:
    """Gives the file itself a second name, which costs nothing; False if that can't be.

    Not if it has more than one name already: what is published must not share its bytes
    with another output. A link rather than a rename, so that two outputs may hold one file.
    """
    if os.fstat(descriptor).st_nlink > 1:
        return False
    try:
        os.link(source, name, dst_dir_fd=directory, follow_symlinks=False)
        # Also takes away what a container may have added: set-user-id, file capabilities.
        os.fchown(descriptor, os.geteuid(), os.getegid())
        os.fchmod(descriptor, mode)
    except OSError as error:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
        if error.errno in _NO_LINK:
            return False
        raise
    os.fsync(descriptor)
    return True


@contextmanager
def _created(directory: int, name: str, mode: int) -> Iterator[int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(name, flags, mode, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _copy_bytes(source: int, target: int, stop: threading.Event, progress: Progress) -> None:
    transfer = progress.begin()
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:  # another filesystem, or one that can't share blocks
        while count := os.sendfile(target, source, None, _CHUNK):
            transfer.moved(count)
            if stop.is_set():
                raise Canceled("canceled while a file was being copied") from None
    transfer.done()


def _copy_tree(source: Path, destination: Path, stop: threading.Event, progress: Progress) -> None:
    destination.mkdir(parents=True, exist_ok=True)
    with os.scandir(source) as children:
        for child in children:
            target = destination / child.name
            if child.is_symlink():
                target.symlink_to(os.readlink(child.path))
            elif child.is_dir(follow_symlinks=False):
                _copy_tree(Path(child.path), target, stop, progress)
            elif child.is_file(follow_symlinks=False):
                copy_file(Path(child.path), target, stop, progress)
    shutil.copystat(source, destination)


def _plain_mode(mode: int) -> int:
    """0666, or 0777 if anyone may execute the file, less the umask."""
    return (0o777 if mode & 0o111 else 0o666) & ~_umask()


def _umask() -> int:
    # os.umask would have to set it to read it, for all threads.
    found = re.search(r"^Umask:\s*([0-7]+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1], 8) if found else 0o022


def _input_failed(source: Path, error: OSError) -> InputFailed:
    if isinstance(error, FileNotFoundError) and not os.path.lexists(source):
        return InputFailed(f"the input {source} doesn't exist")
    return InputFailed(f"the input {source} can't be copied: {_words(error)}")


def _output_failed(url: str, error: OSError) -> OutputFailed:
    failed = OutputFailed(f"the output {url} can't be stored: {_words(error)}")
    failed.transient = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE}
    return failed


def _words(error: OSError) -> str:
    place = f" ({error.filename})" if isinstance(error.filename, str) else ""
    return f"{error.strerror or error}{place}"
