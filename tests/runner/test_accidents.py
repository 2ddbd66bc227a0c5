"""What dies while a task runs, and what becomes of the task."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytes.attempt import Update
from raytes.errors import ContainerRefused
from raytes.models import TesState
from raytes.runner.podman import Engine, has_ended
from raytes.runner.service import runtime_directory
from tests.podman import podman
from tests.runner.conftest import Attempt, Bench


def during(bench: Bench, accident: Callable[[dict[str, Any]], None]) -> Attempt:
    """Run a task that would take long, with an accident as soon as its container writes."""

    def said(update: Update) -> None:
        if any(tails.stdout for tails in update.tails.values()):
            accident(bench.containers()[0])

    return bench.run({"executors": [bench.executor("echo up; sleep 600")]}, said=said)


def test_a_container_that_is_killed_from_outside_has_failed(bench: Bench) -> None:
    attempt = during(bench, lambda container: podman("kill", container["Id"]))
    assert attempt.state is TesState.EXECUTOR_ERROR
    assert attempt.exit_codes == [137]
    assert attempt.failure_reason == "executor_error"
    assert "SIGKILL" in attempt.system_logs


def test_a_container_that_is_removed_from_outside_was_killed_or_is_lost(bench: Bench) -> None:
    attempt = during(bench, lambda container: podman("rm", "--force", "--time=0", container["Id"]))
    # Whether Podman can still tell the exit code is a race that it has with itself.
    assert (attempt.state, attempt.failure_reason, attempt.last.retry) in (
        (TesState.EXECUTOR_ERROR, "executor_error", False),
        (TesState.SYSTEM_ERROR, "container_lost", True),
    )


@pytest.mark.parametrize("step", ["initialize", "start"])
# Removed in the middle of the call, Podman answers 500 and not 404: no test hits that moment.
@pytest.mark.parametrize("noticed_late", [False, True])
def test_a_container_that_is_removed_from_outside_before_it_runs_is_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str, noticed_late: bool
) -> None:
    original = getattr(Engine, step)

    def remove_first(engine: Engine, container: str) -> None:
        podman("rm", "--force", "--time=0", container)
        if noticed_late:
            raise ContainerRefused(f"container {container} does not exist: no such container")
        original(engine, container)

    monkeypatch.setattr(Engine, step, remove_first)
    attempt = bench.sh("true")
    assert attempt.state is TesState.SYSTEM_ERROR
    assert attempt.failure_reason == "container_lost"
    assert attempt.last.retry


def test_a_task_whose_podman_service_dies_is_tried_again(bench: Bench) -> None:
    attempt = during(bench, lambda container: kill_service(bench))
    assert attempt.state is TesState.SYSTEM_ERROR
    assert attempt.failure_reason == "podman_unavailable"
    assert attempt.last.retry
    assert attempt.last.of_node
    assert bench.sh("echo again").stdout() == "again\n"


def test_a_task_whose_conmon_dies_is_tried_again(bench: Bench) -> None:
    def kill_conmon(container: dict[str, Any]) -> None:
        found = podman("inspect", "--format={{.State.ConmonPid}}", container["Id"])
        os.kill(int(found), signal.SIGKILL)

    attempt = during(bench, kill_conmon)
    assert attempt.state is TesState.SYSTEM_ERROR
    assert attempt.failure_reason == "container_lost"
    assert attempt.last.retry


def kill_service(bench: Bench) -> None:
    socket = str(runtime_directory(bench.node.instance) / "podman.sock").encode()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        line = entry.read_bytes() if entry.exists() else b""
        if line.startswith(b"podman\0system\0service") and socket in line:
            os.kill(int(entry.parent.name), signal.SIGKILL)


def test_a_task_whose_conmon_died_before_its_container_began_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attach(self: Engine, container: str, conmon: int | None) -> None:
        raise ContainerRefused("failed to connect to container's attach socket: refused")

    monkeypatch.setattr(Engine, "attach", attach)
    attempt = bench.sh("true")
    assert attempt.failure_reason == "container_lost"
    assert attempt.last.retry


# Podman keeps silent to who attaches to one that has ended, and refuses to start it.
@pytest.mark.parametrize("step", ["attach", "attach_stdin", "start"])
def test_a_container_that_is_killed_before_it_begins_is_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    original = getattr(Engine, step)

    def kill_first(engine: Engine, container: str, *watched: int | None) -> Any:
        state = engine.inspect(container)
        conmon = os.pidfd_open(state.conmon_pid)
        os.kill(state.pid, signal.SIGKILL)
        assert has_ended(conmon, within=10)
        os.close(conmon)
        return original(engine, container, *watched)

    monkeypatch.setattr(Engine, step, kill_first)
    attempt = bench.run(
        {
            "executors": [bench.executor("cat", stdin="/in")],
            "inputs": [{"path": "/in", "content": "x"}],
        }
    )
    assert attempt.state is TesState.SYSTEM_ERROR
    assert attempt.failure_reason == "container_lost"
    assert attempt.last.retry
