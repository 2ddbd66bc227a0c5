"""Paths walked without following a link, so that they end where they were meant to.

An image, a copied directory or an executor may have put a link anywhere into what a task may
write to. Whoever followed it on the node would leave the task.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import BinaryIO, Final

_ROOT: Final = Path("/")
_ANYTHING: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = _ANYTHING | os.O_DIRECTORY


class ThroughLink(OSError):
    """A path leads through a link."""


@contextmanager
def held(path: Path, below: Path = _ROOT) -> Iterator[Path]:
    """What is at an absolute path that was without links when it was looked at.

    What is given is another name for it while in this block, one that nobody can turn elsewhere.
    `below`, from where the path is walked, is trusted.

    Raises:
        ThroughLink: there is a link on the way by now, or it is one.
        OSError: it isn't there any more, or can't be reached.
    """
    with _walked(below, path.relative_to(below), _look) as found:
        yield found


@contextmanager
def entered(root: Path, relative: PurePath) -> Iterator[Path]:
    """The directory `relative` below `root`, made where it isn't there, as `held` gives it.

    `root` itself is trusted.

    Raises:
        ThroughLink: there is a link on the way.
        OSError: it can't be made, or is something else.
    """
    with _walked(root, relative, _enter) as directory:
        yield directory


def opened(path: Path) -> BinaryIO:
    """The regular file at a path as `held` takes it, to be read.

    Raises:
        OSError: as `held`; or it is no regular file, or may not be read.
    """
    with held(path) as found:
        if not found.is_file():  # a FIFO would be waited for
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        # Some filesystems (FUSE, /proc) give less than was asked for; a buffered file asks again.
        return found.open("rb")


@contextmanager
def _walked(root: Path, relative: PurePath, step: Callable[[str, int], int]) -> Iterator[Path]:
    current = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in relative.parts:
            below = step(name, current)
            os.close(current)
            current = below
        yield Path(f"/proc/self/fd/{current}")
    finally:
        os.close(current)


def _look(name: str, directory: int) -> int:
    # As a directory first: only then is mounted what an automounter has there.
    with suppress(NotADirectoryError):
        return os.open(name, _DIRECTORY, dir_fd=directory)
    found = os.open(name, _ANYTHING, dir_fd=directory)
    if stat.S_ISLNK(os.fstat(found).st_mode):
        os.close(found)
        raise ThroughLink(errno.ELOOP, "the way to it leads through a link", name)
    return found


def _enter(name: str, directory: int) -> int:
    try:
        found = _look(name, directory)
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=directory)
        found = _look(name, directory)
    if not stat.S_ISDIR(os.fstat(found).st_mode):
        os.close(found)
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
    return found
