"""What lies in a directory that containers write to, at whatever depth."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def statuses_below(
    directory: Path, refused: Callable[[], None] = lambda: None
) -> Iterator[os.stat_result]:
    """The status of everything in a directory, as far as it may be looked at.

    One directory is open at a time, and entered from the one above: names that together are
    longer than a path may be, and more of them than the stack is deep, are no way to hide
    from this. What vanishes meanwhile is left out; what is moved elsewhere ends it.

    Parameters:
        refused: is called where something may not be looked at.
    """
    at = _enter(directory, None, refused)
    if at is None:
        return
    above: list[tuple[tuple[int, int], list[str]]] = []  # who they are, and what is left in them
    try:
        statuses, inside = _look(at, refused)
        yield from statuses
        while True:
            if inside:
                below = _enter(inside.pop(), at, refused)
                if below is None:
                    continue
                statuses, inside_below = _look(below, refused)
                yield from statuses
                if not inside_below:
                    os.close(below)
                    continue
                above.append((_identity(at), inside))
                os.close(at)
                at, inside = below, inside_below
            elif above:
                parent, inside = above.pop()
                up = _enter("..", at, refused)
                if up is None:
                    return
                os.close(at)
                at = up
                if _identity(at) != parent:
                    return
            else:
                return
    finally:
        os.close(at)


def _look(directory: int, refused: Callable[[], None]) -> tuple[list[os.stat_result], list[str]]:
    """The status of each entry, and the names of the directories among them."""
    statuses: list[os.stat_result] = []
    directories: list[str] = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    statuses.append(entry.stat(follow_symlinks=False))
                except PermissionError:  # another user's
                    refused()
                    continue
                except OSError:  # it is being removed
                    continue
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.name)
    except OSError:
        pass
    return statuses, directories


def _enter(name: str | Path, directory: int | None, refused: Callable[[], None]) -> int | None:
    try:
        return os.open(name, _DIRECTORY, dir_fd=directory)
    except PermissionError:  # another user's
        refused()
    except OSError:  # it is being removed
        pass
    return None


def _identity(directory: int) -> tuple[int, int]:
    status = os.fstat(directory)
    return status.st_dev, status.st_ino
