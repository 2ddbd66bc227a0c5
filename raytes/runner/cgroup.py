"""What the kernel counts for a container: memory kills, peak memory, CPU time.

Podman's own word on memory kills can't be relied on. The counters are read between the
program's end and the removal of its cgroup by conmon's exit command, which takes a process
start; where they are gone all the same, they are None.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container has used; None: not known."""

    memory_kills: int | None = None
    peak_memory: int | None = None  # bytes
    cpu_seconds: float | None = None


class Cgroup:
    """The cgroup of a process, in version 1, 2 or hybrid."""

    def __init__(self, pid: int, proc: Path = Path("/proc"), root: Path = _ROOT) -> None:
        paths = _paths(proc / str(pid) / "cgroup")
        unified = root / paths[""] if "" in paths else root
        self._v2 = unified if "memory" not in paths else None
        self._memory = root / "memory" / paths.get("memory", "")
        self._cpu = root / "cpuacct" / paths.get("cpuacct", "")

    def usage(self) -> Usage:
        """The counters now."""
        if self._v2 is not None:
            microseconds = _counter(self._v2 / "cpu.stat", r"^usage_usec (\d+)")
            return Usage(
                memory_kills=_counter(self._v2 / "memory.events", r"^oom_kill (\d+)"),
                peak_memory=_counter(self._v2 / "memory.peak", r"^(\d+)"),
                cpu_seconds=None if microseconds is None else microseconds / 1e6,
            )
        nanoseconds = _counter(self._cpu / "cpuacct.usage", r"^(\d+)")
        return Usage(
            memory_kills=_counter(self._memory / "memory.oom_control", r"^oom_kill (\d+)"),
            peak_memory=_counter(self._memory / "memory.max_usage_in_bytes", r"^(\d+)"),
            cpu_seconds=None if nanoseconds is None else nanoseconds / 1e9,
        )


def _paths(file: Path) -> dict[str, str]:
    """The cgroup of each controller, that of version 2 under the empty name."""
    paths: dict[str, str] = {}
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return paths
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path.lstrip("/")
    return paths


def _counter(file: Path, pattern: str) -> int | None:
    try:
        found = re.search(pattern, file.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None
