"""The state of the node before and after many tasks of all kinds."""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytes.models import TesState
from tests.service.running import Service

_TASKS = 200
_SMALL = {"cpu_cores": 1, "ram_gb": 0.1}


def documents(service: Service) -> list[dict[str, Any]]:
    """One task of each kind."""

    def sh(script: str, **fields: Any) -> dict[str, Any]:
        return {"executors": [service.executor("sh", "-c", script)], "resources": _SMALL, **fields}

    url = f"file://{service.files}/mixed"
    return [
        sh("echo hello"),
        sh("exit 3"),
        sh("cat /in/a > /out/a", inputs=[{"path": "/in/a", "content": "text"}],
           outputs=[{"path": "/out/a", "url": f"{url}/a"}]),
        sh("mkdir -p /out/d/e; echo x > /out/d/e/f; chmod 700 /out/d/e",
           outputs=[{"path": "/out/d", "url": f"{url}/d", "type": "DIRECTORY"}]),
        sh("true", outputs=[{"path": "/out/missing", "url": f"{url}/missing"}]),
        sh("echo x > /v/f; ln -s /etc/passwd /v/link", volumes=["/v"]),
        sh("sleep 600 & sleep 600", resources={
            **_SMALL, "backend_parameters": {"max_runtime": "0.3"}}),
        sh("echo up; sleep 600", tags={"cancel": "yes"}),
        {"executors": [{"image": "localhost/raytes-no-such-image:1", "command": ["true"]}],
         "resources": _SMALL},
        {"executors": [service.executor("no-such-program")], "resources": _SMALL},
    ]  # fmt: skip


_ENDS = {
    TesState.COMPLETE: 4,
    TesState.EXECUTOR_ERROR: 3,
    TesState.SYSTEM_ERROR: 2,
    TesState.CANCELED: 1,
}


def kill_a_runner(service: Service) -> None:
    """Kill one of those that are there; what it is at is tried again."""
    deadline = time.monotonic() + 60
    while True:
        runners = [pid for pid, line in service.processes() if line.startswith("ray::Runner")]
        if runners:
            os.kill(runners[0], signal.SIGKILL)
            return
        assert time.monotonic() < deadline, "there is no runner"
        time.sleep(0.05)


def temporary(service: Service) -> Path:
    return Path(service.environment["TMPDIR"])


def state_of_node(service: Service) -> dict[str, list[str]]:
    """What a task could leave behind."""
    scratch = [path for path in (service.state_dir / "scratch").rglob("*") if path.is_file()]
    mounts = Path("/proc/mounts").read_text().splitlines()
    return {
        "containers": service.containers(),
        "mounts": [line for line in mounts if "raytes" in line or str(service.state_dir) in line],
        "scratch": [path.name for path in scratch if path.suffix != ".lock"],
        "temporary": sorted(path.name for path in temporary(service).iterdir()),
        "volumes": subprocess.run(
            ["podman", "volume", "ls", "--quiet"], capture_output=True, text=True, check=True
        ).stdout.splitlines(),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_mixed_load_with_a_killed_runner_leaves_the_node_as_it_was(
    new_service: Callable[..., Service], tmp_path: Path
) -> None:
    service = new_service(TMPDIR=str(tmp_path)).start()
    kinds = documents(service)
    service.run("true")  # the node's Podman is up before, and not after, the first look
    before = state_of_node(service)
    with service.client as client:
        ids = [client.create(kinds[number % len(kinds)]) for number in range(_TASKS)]
        for task_id, number in zip(ids, range(_TASKS), strict=True):
            if "tags" in kinds[number % len(kinds)]:
                client.cancel(task_id)
    kill_a_runner(service)
    ends = Counter(service.finish(task_id).state for task_id in ids)
    assert ends == {state: count * _TASKS // len(kinds) for state, count in _ENDS.items()}
    # What a dead runner has left of a cancelled task is removed when somebody comes to it.
    deadline = time.monotonic() + 60
    while (after := state_of_node(service)) != before:
        assert time.monotonic() < deadline, after
        time.sleep(0.5)
