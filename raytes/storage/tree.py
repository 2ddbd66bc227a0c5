"""A directory as a flat store has it (keys with a common beginning), as paths below it."""

from collections.abc import Iterable
from dataclasses import dataclass

from raytes.storage.faults import Fault
from raytes.storage.objects import Object


@dataclass(frozen=True, slots=True)
class Tree:
    """What to make of a listing: paths relative to the directory."""

    directories: list[str]  # each after its parent
    files: dict[str, Object]


def lay_out(directory: str, listing: Iterable[Object]) -> Tree:
    """The tree that the objects below `directory` make.

    Raises:
        Fault: a key can't be a path, or two of them can't both be.
    """
    files: dict[str, Object] = {}
    directories: set[str] = set()
    for found in listing:
        parts = _parts(found.path.removeprefix(f"{directory.rstrip('/')}/"))
        is_marker = found.path.endswith("/")
        depth = len(parts) + 1 if is_marker else len(parts)
        directories.update("/".join(parts[:end]) for end in range(1, depth))
        if is_marker or not parts:
            continue
        path = "/".join(parts)
        if path in files:
            raise Fault(f"two of its keys would be the same file {path!r}")
        files[path] = found
    if clash := min(files.keys() & directories, default=None):
        raise Fault(f"{clash!r} in it is both an object and a directory")
    return Tree(sorted(directories), files)


def _parts(relative: str) -> list[str]:
    """The components of a key; empty ones vanish, as they do in a path."""
    parts = [part for part in relative.split("/") if part]
    if not {".", ".."}.isdisjoint(parts) or "\0" in relative:
        raise Fault(f"its key {relative!r} can't be a path below it")
    return parts
