"""The processes that a process has started."""

from pathlib import Path


def children(parent: int) -> list[int]:
    """Their ids, the youngest last; those only that are still there."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
