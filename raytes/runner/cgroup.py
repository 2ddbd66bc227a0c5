"""What the kernel counts for a container: memory kills, peak memory, CPU time.

Podman's own word on memory kills can't be relied on. The counters are read between the
program's end and the removal of its cgroup, by conmon's exit command, which takes a process
start, or with the container; where they are gone all the same, they are as they were before.
"""

import re
from collections.abc import Iterator
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

    def over(self, earlier: "Usage") -> "Usage":
        """This, where it is known, and an earlier one where not."""
        return Usage(
            earlier.memory_kills if self.memory_kills is None else self.memory_kills,
            earlier.peak_memory if self.peak_memory is None else self.peak_memory,
            earlier.cpu_seconds if self.cpu_seconds is None else self.cpu_seconds,
        )


class Cgroup:
    """The cgroup of a container, in version 1, 2 or hybrid."""

    def __init__(
        self, container: str, pid: int, proc: Path = Path("/proc"), root: Path = _ROOT
    ) -> None:
        """`pid` is that of a process of the container, whose id is `container`."""
        paths = {
            controller: path
            for controller, path in _paths(proc / str(pid) / "cgroup")
            # Where Podman may not make one, the process stays in that of somebody else.
            if container in path
        }
        self._memory = root / "memory" / paths["memory"] if "memory" in paths else None
        self._cpu = root / "cpuacct" / paths["cpuacct"] if "cpuacct" in paths else None
        self._v2 = root / paths[""] if "" in paths and self._memory is None else None
        self._seen = Usage()

    def usage(self) -> Usage:
        """The counters now; those that are gone, as they were when they were last asked for."""
        self._seen = self._read().over(self._seen)
        return self._seen

    def _read(self) -> Usage:
        if self._v2 is not None:
            microseconds = _counter(self._v2, "cpu.stat", r"^usage_usec (\d+)")
            return Usage(
                memory_kills=_counter(self._v2, "memory.events", r"^oom_kill (\d+)"),
                peak_memory=_counter(self._v2, "memory.peak", r"^(\d+)"),
                cpu_seconds=None if microseconds is None else microseconds / 1e6,
            )
        nanoseconds = _counter(self._cpu, "cpuacct.usage", r"^(\d+)")
        return Usage(
            memory_kills=_counter(self._memory, "memory.oom_control", r"^oom_kill (\d+)"),
            peak_memory=_counter(self._memory, "memory.max_usage_in_bytes", r"^(\d+)"),
            cpu_seconds=None if nanoseconds is None else nanoseconds / 1e9,
        )


def _paths(file: Path) -> Iterator[tuple[str, str]]:
    """Each controller with its cgroup, that of version 2 under the empty name."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path.lstrip("/")


def _counter(group: Path | None, file: str, pattern: str) -> int | None:
    if group is None:
        return None
    try:
        found = re.search(pattern, (group / file).read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None
