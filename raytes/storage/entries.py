"""What of a task's output is found on the node, and what became of it in its store."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, or one empty directory, of an output."""

    relative: str  # the path below the output's URL; "" for a single file
    source: Path | None  # a regular file without links in its path; None: a directory


@dataclass(frozen=True, slots=True)
class Stored:
    """One file of an output that is now at its URL."""

    relative: str
    url: str
    size_bytes: int
