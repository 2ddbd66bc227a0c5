"""A service that is stopped, or a node that is drained, while tasks run."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from raytes.client import RequestRefused
from raytes.models import TesState
from tests.service.running import Service

NewService = Callable[..., Service]


@pytest.fixture
def node(service: Service) -> Iterator[dict[str, Any]]:
    """The one node of the service that tests share, open again after the test."""
    [node] = service.client.health()["nodes"]
    yield node
    service.client.undrain_node(node["id"])
    service.hold()


def start(new_service: NewService, **environment: str) -> Service:
    # No retries: what is given back must not need one.
    one_cpu = {"RAYTES_DEFAULT_CPU_CORES": "2", "RAYTES_MAX_RETRIES": "0"}
    return new_service(RAYTES_NETWORK="none", **one_cpu, **environment).start(
        stderr=subprocess.PIPE
    )


def begin_to_stop(service: Service) -> None:
    """Send SIGTERM, and wait until the service has it in hand."""
    assert service.process is not None
    assert service.process.stderr is not None
    service.process.send_signal(signal.SIGTERM)
    next(line for line in service.process.stderr if line.startswith("stopping"))


def test_running_tasks_are_given_time_to_end_and_no_task_is_begun(new_service: NewService) -> None:
    service = start(new_service, RAYTES_DRAIN_TIMEOUT="100")
    running = service.submit_waiting()
    queued = service.submit("true")
    begin_to_stop(service)
    late = service.submit("true")
    service.let_go()
    assert service.process is not None
    assert service.process.wait(timeout=60) == 0
    assert service.containers() == []
    service.start()
    task = service.finish(running)
    assert (task.state, len(task.logs or [])) == (TesState.COMPLETE, 1)
    for task_id in (queued, late):
        task = service.finish(task_id)
        assert (task.state, len(task.logs or [])) == (TesState.COMPLETE, 1)


@pytest.mark.slow
def test_a_second_signal_ends_the_patience_and_the_task_is_run_again(
    new_service: NewService,
) -> None:
    service = start(new_service, RAYTES_DRAIN_TIMEOUT="1000")
    running = service.submit_waiting()
    begin_to_stop(service)
    assert service.stop(signal.SIGINT) == 0
    assert service.containers() == []
    service.let_go()
    service.start()
    task = service.finish(running)
    assert (task.state, len(task.logs or [])) == (TesState.COMPLETE, 2)


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
