"""A service for the measures, and a bare route behind the same ingress."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.constant import CONSTANT_ROUTE
from raytes.client import Client


@dataclass(frozen=True)
class Service:
    """A service that runs: its state directory, the URL of its API, its process."""

    state_dir: Path
    url: str
    process: "subprocess.Popen[str]"

    @property
    def client(self) -> Client:
        return Client(self.url)

    @property
    def constant_url(self) -> str:
        """The bare route; `deploy_constant` makes it."""
        return self.url.partition("/ga4gh")[0] + CONSTANT_ROUTE + "/"

    def deploy_constant(self) -> None:
        """Put a route that returns a constant behind the service's ingress."""
        address = (self.state_dir / "ray-address").read_text().strip()
        environment = {
            **os.environ,
            "RAY_ADDRESS": address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.state_dir / "ray-token"),
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_LOG_TO_STDERR": "0",
        }
        subprocess.run([sys.executable, "-m", "benchmarks.constant"], env=environment, check=True)


@contextlib.contextmanager
def running(state_dir: Path, **settings: str) -> Iterator[Service]:
    """A service with its embedded defaults, but for `settings` (RAYTES_…)."""
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    process = subprocess.Popen(
        [sys.executable, "-m", "raytes", "serve", "--port=0", f"--state-dir={state_dir}"],
        env={**environment, **settings},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"serving at (\S+)", process.stdout.readline())
        if not found:
            raise RuntimeError("the service did not start; what it said is above")
        yield Service(state_dir, found[1], process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def processes_of(service: Service) -> list[int]:
    """The processes of the service and its Ray; Podman's are not among them."""
    return descendants(service.process.pid)


def descendants(ancestor: int) -> list[int]:
    """A process and all that it and its children have begun."""
    found = {ancestor}
    grown = True
    parents = _parents()
    while grown:
        children = {pid for pid, parent in parents.items() if parent in found}
        grown = not children <= found
        found |= children
    return sorted(found)


def cpu_seconds(pids: list[int]) -> float:
    """What processes that are still there have used so far, with their children that ended."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _parents() -> dict[int, int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text()
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    return parents
