"""Publishing outputs on the node's own filesystems.

Everything is done relative to directories that were opened component by component without
following a link, so that whoever swaps a directory for a link while we work gains nothing.
"""

import errno
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from raytes.attempt import Receipt
from raytes.errors import Canceled, OutputFailed
from raytes.storage import errnos, urls
from raytes.storage.authority import Authority
from raytes.storage.below import opened
from raytes.storage.entries import Entry, Stored
from raytes.storage.local import copy_bytes, words
from raytes.storage.policy import LocalTarget, Policy
from raytes.storage.progress import Progress

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}
"""What the kernel says where a file can't be had in another directory without copying it."""

_REMOVALS = 10
"""How often a directory is emptied that somebody still puts files into."""


@dataclass(frozen=True, slots=True)
class _Staged:
    """A file in the directory `aside`, under a name of its own."""

    relative: str
    url: str
    target: LocalTarget
    aside: LocalTarget
    name: str
    size: int  # bytes


class LocalOutput:
    """The files of one output under its `file://` URL or bare path."""

    def __init__(
        self, policy: Policy, path: str, url: str, authority: Authority, progress: Progress
    ) -> None:
        self._policy = policy
        self._base = path
        self._url = url
        self._authority = authority
        self._progress = progress
        self._asides: dict[Path, LocalTarget] = {}  # by the directory that a file goes to
        self._directories: list[LocalTarget] = []
        self._files: list[_Staged] = []

    def stage(self, entries: Sequence[Entry], stop: threading.Event) -> None:
        """As `Output.stage`. On one filesystem only originals are copied: any other file gets a
        second name itself, and from then on belongs to the service's user. The bytes are on disk.
        """
        targets = [self._target_of(entry) for entry in entries]
        self._announce_hidden()
        for entry, target in zip(entries, targets, strict=True):
            if stop.is_set():
                raise Canceled("canceled while its outputs were being stored")
            if entry.source is None:
                self._directories.append(target)
            else:
                self._stage_file(entry, entry.source, target, stop)

    def commit(self, stop: threading.Event) -> list[Stored]:
        """As `Output.commit`; what has appeared is on disk."""
        touched: dict[Path, LocalTarget] = {}
        stored: list[Stored] = []
        try:
            for file in self._files:
                if stop.is_set():
                    raise Canceled("canceled while its outputs were being stored")
                with _failing(file.url):
                    parent = _parent(file.target)
                    touched[parent.path] = parent
                    _move_into_place(file, parent)
                stored.append(Stored(file.relative, file.url, file.size))
            with _failing(self._url):
                for target in self._directories:
                    touched[target.path] = target
                    with _opened(target, create=True):
                        pass
                for target in touched.values():
                    with _opened(target, create=False) as directory:
                        os.fsync(directory)
        finally:
            del self._files[: len(stored)]
        self.discard()
        return stored

    def discard(self) -> None:
        """As `Output.discard`."""
        for file in self._files:
            with suppress(OSError), _opened(file.aside, create=False) as directory:
                os.unlink(file.name, dir_fd=directory)
        for aside in set(self._asides.values()):
            # Another output of the task may still have its files there.
            with suppress(OSError), _opened(_parent(aside), create=False) as directory:
                os.rmdir(aside.path.name, dir_fd=directory)

    def _target_of(self, entry: Entry) -> LocalTarget:
        target = self._policy.resolve(os.path.join(self._base, entry.relative))
        if entry.source is None:
            return target
        with _failing(urls.join(self._url, entry.relative)):
            if target.path == target.root or self._is_directory_url(entry.relative):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            parent = _parent(target)
            if parent.path not in self._asides:
                there = _existing_part(parent)
                aside = LocalTarget(there.root, there.path / self._authority.aside, there.shared)
                self._asides[parent.path] = aside
        return target

    def _is_directory_url(self, relative: str) -> bool:
        return not relative and self._base.endswith("/")

    def _announce_hidden(self) -> None:
        """Leave word of the directories where `revoke` wouldn't look."""
        base = self._policy.resolve(self._base).path
        hidden = {
            aside.path.parent
            for aside in self._asides.values()
            if not base.is_relative_to(aside.path.parent)
        }
        if hidden:
            receipts = [Receipt(urls.file_url(at), self._authority.aside) for at in sorted(hidden)]
            self._authority.ask(receipts)

    def _stage_file(
        self, entry: Entry, source: Path, target: LocalTarget, stop: threading.Event
    ) -> None:
        url = urls.join(self._url, entry.relative)
        aside = self._asides[target.path.parent]
        name = secrets.token_hex(8)
        with _failing(url), _opened(_parent(aside), create=False) as above:
            _make(aside.path.name, above, mode=0o700)
            directory = os.open(aside.path.name, _DIRECTORY, dir_fd=above)
            try:
                size = _materialize(
                    source, directory, name, stop, self._progress, may_link=not entry.is_original
                )
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=directory)
                raise
            finally:
                os.close(directory)
        self._files.append(_Staged(entry.relative, url, target, aside, name, size))


def revoke(policy: Policy, path: str, asides: Sequence[str]) -> None:
    """Removes what was put aside under these names for an output at `path`.

    Whoever put it there can't have it appear any more.

    Raises:
        ForbiddenURL: `path` is not one that the service may write.
        OutputFailed: it can't be removed.
    """
    target = policy.resolve(path)
    for directory in (target.path, *target.path.parents):
        if not directory.is_relative_to(target.root):
            break
        place = LocalTarget(target.root, directory, target.shared)
        try:
            with _opened(place, create=False) as opened:
                for aside in asides:
                    _remove(aside, opened)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise _failed(
                f"what an earlier attempt left in {directory} can't be removed", error
            ) from error


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


def _existing_part(target: LocalTarget) -> LocalTarget:
    """The directory `target`, or the nearest above it that is there.

    What is made below has that one's filesystem and quota, so a rename can't fail for these.
    """
    while True:
        try:
            with _opened(target, create=False):
                return target
        except FileNotFoundError:
            if target.path == target.root:
                raise
            target = _parent(target)


def _parent(target: LocalTarget) -> LocalTarget:
    return LocalTarget(target.root, target.path.parent, target.shared)


def _make(name: str, directory: int, mode: int = 0o777) -> bool:
    try:
        os.mkdir(name, mode, dir_fd=directory)
    except FileExistsError:
        return False
    return True


def _remove(name: str, directory: int) -> None:
    """Removes a directory with what is in it, if it is there."""
    for turn in range(_REMOVALS):
        try:
            shutil.rmtree(name, dir_fd=directory)
        except FileNotFoundError:
            # Of the directory itself, or of a file that its owner has just moved into place.
            if not _is_there(name, directory):
                return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or turn + 1 == _REMOVALS:
                raise


def _is_there(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _move_into_place(file: _Staged, parent: LocalTarget) -> None:
    with (
        _opened(file.aside, create=False) as aside,
        _opened(parent, create=True) as directory,
    ):
        os.rename(file.name, file.target.path.name, src_dir_fd=aside, dst_dir_fd=directory)


def _materialize(
    source: Path,
    directory: int,
    name: str,
    stop: threading.Event,
    progress: Progress,
    *,
    may_link: bool,
) -> int:
    """Has the bytes of `source`, on disk and owned by this user, in a new file."""
    with opened(source) as file:
        descriptor = file.fileno()
        mode = _plain_mode(os.fstat(descriptor).st_mode)
        if not (may_link and _link(source, descriptor, directory, name, mode)):
            with _created(directory, name, mode) as copy:
                copy_bytes(descriptor, copy, stop, progress)
                os.fsync(copy)
        return os.fstat(descriptor).st_size


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


def _plain_mode(mode: int) -> int:
    """0666, or 0777 if anyone may execute the file, less the umask."""
    return (0o777 if mode & 0o111 else 0o666) & ~_umask()


def _umask() -> int:
    # os.umask would have to set it to read it, for all threads.
    found = re.search(r"^Umask:\s*([0-7]+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1], 8) if found else 0o022


@contextmanager
def _failing(url: str) -> Iterator[None]:
    """In this block, what the kernel refuses is the failure of the output at `url`."""
    try:
        yield
    except OSError as error:
        raise _failed(f"the output {url} can't be stored", error) from error


def _failed(what: str, error: OSError) -> OutputFailed:
    failed = OutputFailed(f"{what}: {words(error)}")
    failed.transient = error.errno in errnos.PASSING_ELSEWHERE
    return failed
