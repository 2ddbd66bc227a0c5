"""A service with PostgreSQL: either may be gone, and the other goes on."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import orjson
import pytest

from raytes.models import TesState
from tests.postgres import Server
from tests.service.running import Service


@pytest.fixture
def mortal() -> Iterator[Server]:
    """A server that may die."""
    server = Server()
    yield server
    server.close()


def test_postgresql_may_die_and_come_back_and_then_the_head_node_may(
    mortal: Server, new_service: Callable[..., Service], tmp_path: Path
) -> None:
    shared = {
        "RAYTES_DATABASE": mortal.fresh(),
        "RAYTES_LOCAL_ROOT": str(tmp_path),
        "RAYTES_MAX_RETRIES": "0",  # another head node uses up none
    }
    old = new_service("old", **shared).start()
    done = old.run("echo", "done")
    everything = {"cpu_cores": len(os.sched_getaffinity(0))}
    running = old.submit(
        *("sh", "-c", "echo up; [ -e /files/go ] || sleep 600"),
        inputs=[{"url": f"file://{tmp_path}", "path": "/files"}],
        resources=everything,
    )
    old.await_stdout(running, "up")

    mortal.kill()
    body = orjson.dumps({"executors": [old.executor("true")], "resources": everything})
    refused = old.post(body)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert httpx.get(f"{old.url}/tasks/{running}").status_code == 503
    mortal.start()
    answers = iter(lambda: old.post(body), None)
    waiting = next(answer for answer in answers if answer.status_code == 200).json()["id"]
    old.stop(signal.SIGKILL)
    assert not (old.state_dir / "raytes.db").exists()

    (tmp_path / "go").touch()
    fresh = new_service("fresh", **shared).start()
    assert fresh.client.get(done.id or "").state is TesState.COMPLETE
    assert [fresh.finish(task).state for task in (running, waiting)] == [TesState.COMPLETE] * 2
    assert [len(fresh.client.get(task).logs or []) for task in (running, waiting)] == [2, 1]
    assert len(list(fresh.client.list())) == 3


@pytest.mark.slow  # it waits for as long as a machine that is gone may take to be noticed
def test_a_second_service_on_a_database_is_refused_with_a_sentence(
    postgres: Server, new_service: Callable[..., Service], tmp_path: Path
) -> None:
    url = postgres.fresh()
    new_service("first", RAYTES_DATABASE=url).start()
    second = subprocess.run(
        [sys.executable, "-m", "raytes", "serve", "--port", "0"],
        env={**os.environ, "RAYTES_DATABASE": url, "RAYTES_STATE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert second.returncode == 1
    assert "another store writes to postgresql://" in second.stderr
    assert "Traceback" not in second.stderr
