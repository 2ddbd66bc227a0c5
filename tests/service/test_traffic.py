"""Traffic between runners and the store that is cut off: what is said meanwhile arrives after."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from raytes.models import TesState, TesTask
from tests.service.running import Service

EXECUTORS = 12


def submit(service: Service) -> str:
    """A task whose system log gets a line every few tenths of a second."""
    executors = [service.executor("sleep", "0.3") for _ in range(EXECUTORS)]
    return service.client.create({"executors": executors})


def check_nothing_is_missing_or_doubled(task: TesTask) -> None:
    assert task.state is TesState.COMPLETE
    [attempt] = task.logs or []
    said = re.findall(r"executor (\d+) ended with exit code 0", " ".join(attempt.system_logs or ()))
    assert said == [str(number) for number in range(EXECUTORS)]
    assert [one.exit_code for one in attempt.logs] == [0] * EXECUTORS


def test_what_is_said_while_the_store_is_frozen_arrives_when_it_goes_on(service: Service) -> None:
    task_id = submit(service)
    service.await_state(task_id, TesState.RUNNING)
    store = service.store()
    assert store is not None
    os.kill(store, signal.SIGSTOP)
    # Until the runner has come to the task's end, which nobody can be told of meanwhile.
    time.sleep(EXECUTORS * 0.7)
    os.kill(store, signal.SIGCONT)
    check_nothing_is_missing_or_doubled(service.finish(task_id))


def test_a_create_waits_for_a_store_that_is_frozen_and_tasks_are_shown(service: Service) -> None:
    earlier = service.submit("true")
    service.finish(earlier)
    document = {"executors": [service.executor("true")], "name": "waits for a frozen store"}
    store = service.store()
    assert store is not None
    with ThreadPoolExecutor() as clients:
        os.kill(store, signal.SIGSTOP)
        try:
            created = clients.submit(service.client.create, document)
            assert service.client.state(earlier) is TesState.COMPLETE
            assert not created.done()
        finally:
            os.kill(store, signal.SIGCONT)
        task_id = created.result()
    found = service.client.list(name_prefix=document["name"])
    assert [task.id for task in found] == [task_id]


def test_what_is_said_while_the_store_dies_again_and_again_is_kept_once(service: Service) -> None:
    task_id = submit(service)
    service.await_state(task_id, TesState.RUNNING)
    for _ in range(3):
        service.kill_store()
    check_nothing_is_missing_or_doubled(service.finish(task_id))


@contextmanager
def cut(*processes: int) -> Iterator[None]:
    """Have whoever connects to these processes, or is connected, refused while in this block."""
    listed = subprocess.run(["ss", "-tlnpH"], capture_output=True, text=True, check=True).stdout
    ports = {
        line.split()[3].rpartition(":")[2]
        for line in listed.splitlines()
        if any(f"pid={pid}," in line for pid in processes)
    }
    assert ports
    reset = ["-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset", "--dport"]
    for port in ports:
        subprocess.run(["iptables", "-I", "INPUT", *reset, port], check=True)
    try:
        yield
    finally:
        for port in ports:
            subprocess.run(["iptables", "-D", "INPUT", *reset, port], check=True)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can cut connections")
def test_an_attempt_goes_on_while_its_runner_and_the_store_can_not_reach_each_other(
    service: Service,
) -> None:
    task_id = submit(service)
    service.await_state(task_id, TesState.RUNNING)
    ends = [
        pid for pid, line in service.processes() if line.startswith(("ray::Store", "ray::Runner"))
    ]
    with cut(*ends):
        time.sleep(60)
    check_nothing_is_missing_or_doubled(service.finish(task_id))
