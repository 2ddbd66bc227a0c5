"""File systems that are mounted inside a directory of the node."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MOUNTS: Final = Path("/proc/self/mountinfo")
_MOUNT_POINT: Final = 4  # the field that says where it is mounted (proc(5))
_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")


def mount_points_below(directory: Path) -> list[Path]:
    """Where something is mounted inside a directory, which is given without links."""
    found = {point for point in _mount_points() if directory in point.parents}
    return sorted(point for point in found if os.path.lexists(point))  # else it is covered


def _mount_points() -> Iterator[Path]:
    for line in _MOUNTS.read_bytes().splitlines():
        escaped = line.split(b" ")[_MOUNT_POINT]
        yield Path(os.fsdecode(_ESCAPED.sub(lambda code: bytes([int(code[1], 8)]), escaped)))
