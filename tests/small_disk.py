"""A filesystem of its own with little room, which can be filled and freed."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mounted(directory: Path, size: str) -> Iterator[bool]:
    """Make a directory, and mount a filesystem of a size there while in this block; whether that
    can be done: only root can, and not everywhere."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(directory)]
    mountable = subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield mountable
    finally:
        if mountable:
            subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Take all that is free while in this block."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass  # it is full
    try:
        yield
    finally:
        filler.unlink()
