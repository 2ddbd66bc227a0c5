"""A service that is stopped, or a node that is drained, while tasks run."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raytes.client import RequestRefused
from raytes.models import TesState
from raytes.surroundings import runtime_path
from tests.images import Images
from tests.service.running import Service, processes


@pytest.fixture
def node(service: Service) -> Iterator[dict[str, Any]]:
    """The one node of the service that tests share, open again after the test."""
    [node] = service.client.health()["nodes"]
    yield node
    service.client.undrain_node(node["id"])
    service.hold()


@pytest.fixture(scope="module")
def shared(podman_images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(
        tmp_path_factory.mktemp("patient") / "state",
        podman_images.busybox,
        RAYTES_NETWORK="none",
        RAYTES_DEFAULT_CPU_CORES="2",
        RAYTES_MAX_RETRIES="0",  # what is given back must not need one
        RAYTES_DRAIN_TIMEOUT="1000",
    )
    yield service
    assert service.stop() == 0


@pytest.fixture
def patient(shared: Service) -> Iterator[Service]:
    """A service that runs one task at a time, and gives it time when it is to stop."""
    yield shared if shared.process else shared.start(stderr=subprocess.PIPE)
    shared.hold()


def thread_beside_the_first(pid: int) -> int:
    """A thread of a process that takes SIGTERM and isn't its main one."""
    for thread in sorted(Path(f"/proc/{pid}/task").iterdir(), reverse=True):
        blocked = re.search(r"^SigBlk:\s(\w+)$", (thread / "status").read_text(), re.MULTILINE)
        if blocked and not int(blocked[1], 16) >> (signal.SIGTERM - 1) & 1:
            return int(thread.name)
    raise AssertionError("no thread takes the signal")


def begin_to_stop(service: Service) -> None:
    """Send SIGTERM, and wait until the service has it in hand.

    It reaches a thread of Ray's, as any may that isn't the first to come.
    """
    assert service.process is not None
    assert service.process.stderr is not None
    os.kill(thread_beside_the_first(service.process.pid), signal.SIGTERM)
    next(line for line in service.process.stderr if line.startswith("stopping"))


def ray_of(service: Service) -> list[str]:
    """The processes of the service's own Ray."""
    return processes(str(runtime_path(service.state_dir)))


# Of a state directory.
_KEPT = {"files", "lock", "ray-token", "raytes.db", "scratch"}
# The database's, where a replica was ended without closing it: who opens it next takes it in.
_LOG = {"raytes.db-shm", "raytes.db-wal"}


def test_running_tasks_are_given_time_to_end_and_no_task_is_begun(patient: Service) -> None:
    running = patient.submit_waiting()
    queued = patient.submit("true")
    begin_to_stop(patient)
    late = patient.submit("true")
    patient.let_go()
    assert patient.process is not None
    assert patient.process.wait(timeout=60) == 0
    assert patient.containers() == []
    assert ray_of(patient) == []
    left = {path.name: path for path in patient.state_dir.iterdir()}
    assert left.keys() - _LOG == _KEPT
    assert "raytes.db-wal" not in left or left["raytes.db-wal"].stat().st_size == 0
    patient.start(stderr=subprocess.PIPE)
    for task_id in (running, queued, late):
        task = patient.finish(task_id)
        assert (task.state, len(task.logs or [])) == (TesState.COMPLETE, 1)


@pytest.mark.slow
def test_a_second_signal_ends_the_patience_and_the_task_is_run_again(patient: Service) -> None:
    running = patient.submit_waiting()
    begin_to_stop(patient)
    assert patient.stop(signal.SIGINT) == 0
    assert patient.containers() == []
    patient.let_go()
    patient.start(stderr=subprocess.PIPE)
    task = patient.finish(running)
    assert (task.state, len(task.logs or [])) == (TesState.COMPLETE, 2)


def test_two_services_stand_side_by_side_and_nothing_is_left_of_one_that_is_told_often_to_stop(
    service: Service, patient: Service
) -> None:
    ids = [one.run("true").id for one in (service, patient)]
    for one, its, other in ((service, *ids), (patient, *ids[::-1])):
        assert its in (listed := {task.id for task in one.client.list()})
        assert other not in listed
    patient.await_stdout(patient.submit("sh", "-c", "echo up; sleep 600"), "up")
    assert patient.process is not None
    for _ in range(5):
        patient.process.send_signal(signal.SIGINT)
    assert patient.stop(signal.SIGTERM) == 0
    assert patient.containers() == []
    assert ray_of(patient) == []
    mounts = Path("/proc/mounts").read_text()
    assert str(patient.state_dir) not in mounts
    assert str(runtime_path(patient.state_dir)) not in mounts
    assert {path.name for path in patient.state_dir.iterdir()} <= _KEPT | _LOG
    left = [path for path in (patient.state_dir / "scratch").rglob("*") if path.is_file()]
    assert {path.suffix for path in left} <= {".lock"}
    assert service.run("true").state is TesState.COMPLETE


def drain(service: Service, *arguments: str) -> str:
    """What `raytes drain` prints."""
    command = [sys.executable, "-m", "raytes", "drain", *arguments, "--server", service.url]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_a_drained_node_gets_no_task_until_it_may_again(
    service: Service, node: dict[str, Any]
) -> None:
    running = service.submit_waiting()
    shown = drain(service, node["name"], "--timeout", "100")
    assert shown == f"{node['name']} gets no tasks: it is being drained\n"
    queued = service.submit("true")
    told = service.await_system_log(queued, "it is being drained")
    assert told.state is TesState.QUEUED
    service.let_go()
    assert service.finish(running).state is TesState.COMPLETE
    assert service.client.state(queued) is TesState.QUEUED
    assert drain(service, "--off", node["id"][:8]) == f"{node['name']} gets tasks again\n"
    assert service.finish(queued).state is TesState.COMPLETE


def test_a_task_that_outlasts_the_patience_on_a_drained_node_is_run_again(
    service: Service, node: dict[str, Any]
) -> None:
    # No retries: what is given back must not need one.
    running = service.submit_waiting(resources={"backend_parameters": {"max_retries": "0"}})
    service.client.drain_node(node["id"], timeout=0.5)
    service.await_state(running, TesState.QUEUED)
    service.let_go()
    service.client.undrain_node(node["id"])
    task = service.finish(running)
    assert (task.state, len(task.logs or [])) == (TesState.COMPLETE, 2)


def test_draining_a_node_that_is_not_there_says_which_there_are(
    service: Service, node: dict[str, Any]
) -> None:
    with pytest.raises(RequestRefused, match=node["id"]):
        service.client.drain_node("nowhere")
