"""The start of a service beside that of a Ray."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.result import Result, median
from benchmarks.service import running
from raytes.surroundings import free_ports

_ROUNDS = 3


def measure(directory: Path) -> list[Result]:
    """From the command to the first answer, and from `ray start --head` to its end."""
    bare, ours = [], []
    for number in range(_ROUNDS):
        bare.append(_ray(directory / f"r{number}"))
        ours.append(_service(directory / f"s{number}"))
    return [
        Result(
            "service start to first answer",
            median(ours) / median(bare),
            2.0,
            "less",
            f"{median(ours):.1f} s",
            f"{median(bare):.1f} s, `ray start --head`",
        )
    ]


def _service(state_dir: Path) -> float:
    start = time.perf_counter()
    with running(state_dir):  # says where it serves once it has answered
        return time.perf_counter() - start


def _ray(directory: Path) -> float:
    start = time.perf_counter()
    with _started(directory) as lines:
        for line in lines:
            if "Ray runtime started" in line:
                return time.perf_counter() - start
    raise RuntimeError("`ray start --head` did not start")


@contextlib.contextmanager
def _started(directory: Path) -> Iterator[Iterator[str]]:
    """What `ray start` says. It stays in the foreground, so that it can be ended alone."""
    port, dashboard, clients = free_ports(3)
    process = subprocess.Popen(
        [
            *(Path(sys.executable).with_name("ray"), "start", "--head", "--block"),
            *(f"--port={port}", f"--dashboard-port={dashboard}"),
            *(f"--ray-client-server-port={clients}", f"--temp-dir={directory}"),
        ],
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
