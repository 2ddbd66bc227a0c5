"""Directories entered without following a link, so that a file lies where it was meant to.

An image, a copied directory or an earlier executor may have put a link anywhere into what a task
may write to. Whoever followed it on the node would leave the task.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ThroughLink(OSError):
    """A path leads through a link."""


@contextmanager
def entered(root: Path, relative: PurePath) -> Iterator[Path]:
    """The directory `relative` below `root`, made where it isn't there, while in this block.

    What is given is another name for the open directory, one that nobody can turn elsewhere.
    `root` itself is trusted.

    Raises:
        ThroughLink: there is a link on the way.
        OSError: it can't be made, or is something else.
    """
    current = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in relative.parts:
            below = _enter(name, current)
            os.close(current)
            current = below
        yield Path(f"/proc/self/fd/{current}")
    finally:
        os.close(current)


def _enter(name: str, directory: int) -> int:
    try:
        os.mkdir(name, dir_fd=directory)
    except FileExistsError:
        if stat.S_ISLNK(os.lstat(name, dir_fd=directory).st_mode):
            message = "the way to it leads through a link"
            raise ThroughLink(errno.ELOOP, message, name) from None
    return os.open(name, _DIRECTORY, dir_fd=directory)
