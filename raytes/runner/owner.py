"""Who owns what lies on a node: lock files that the kernel releases with their owner.

Each attempt holds the lock of its scratch directory for as long as it is run. Whatever names
an owner whose lock can be had (a container by its label, scratch by holding the lock file) was
left behind by a runner that died.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_LOCK: Final = "owner.lock"
_DEAD: Final = ".dead-"


@contextmanager
def owned_directory(instance_directory: Path, name: str) -> Iterator[Path]:
    """A fresh directory that has an owner while in this block. It isn't removed."""
    directory = instance_directory / f"{name}-{secrets.token_hex(4)}"
    instance_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Or a sweep might take the directory for a dead one's before it is locked.
    with locked(instance_directory / "sweep.lock"):
        directory.mkdir(mode=0o700)
        descriptor = os.open(lock_of(directory), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield directory
    finally:
        os.close(descriptor)


def lock_of(directory: Path) -> Path:
    """The lock file of an owned directory; containers carry its path."""
    return directory / _LOCK


def is_alive(lock: Path) -> bool:
    """Whether the owner that a lock file belongs to lives."""
    try:
        with open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    return False


def claim_dead(instance_directory: Path) -> list[Path]:
    """The directories whose owners are gone, under names that nobody else will use."""
    if not instance_directory.is_dir():
        return []
    claimed: list[Path] = []
    with locked(instance_directory / "sweep.lock"):
        for entry in os.scandir(instance_directory):
            if entry.is_dir(follow_symlinks=False) and not is_alive(lock_of(Path(entry))):
                target = instance_directory / f"{_DEAD}{secrets.token_hex(8)}"
                claimed.append(Path(entry).rename(target))
    return claimed


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive advisory lock on a file, made if it isn't there."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
