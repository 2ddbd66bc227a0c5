"""What a node's cache of remote inputs holds, for those who look after the node."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from raytes.storage.cache import PART


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is kept at one moment."""

    files: int = 0
    size: int = 0  # bytes
    files_in_use: int = 0  # by tasks that run now
    size_in_use: int = 0  # bytes
    fetching: int = 0  # files that are on their way, or were when their runner died


def take(directory: Path) -> Inventory:
    """What the cache at `directory` holds; nothing if there is none."""
    files = size = files_in_use = size_in_use = fetching = 0
    for path, status in _files(directory):
        if path.name.endswith(PART):
            fetching += 1
            continue
        files, size = files + 1, size + status.st_size
        if status.st_nlink > 1:
            files_in_use, size_in_use = files_in_use + 1, size_in_use + status.st_size
    return Inventory(files, size, files_in_use, size_in_use, fetching)


def clear(directory: Path) -> Inventory:
    """Removes what no task is using, and says what that was. It may be done while tasks run."""
    files = size = 0
    for path, status in _files(directory):
        if status.st_nlink == 1 and not path.name.endswith(PART):
            with suppress(FileNotFoundError):
                path.unlink()
                files, size = files + 1, size + status.st_size
    return Inventory(files, size)


def _files(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in directory.glob("*/??/*"):
        with suppress(FileNotFoundError):
            yield path, path.stat()
