"""Traffic between runners and the store that is cut off: what is said meanwhile arrives after."""

import os
import re
import signal
import time
from collections.abc import Callable

import pytest

from raytes.models import TesState, TesTask
from tests.service.running import Service

EXECUTORS = 12


@pytest.fixture
def alone(new_service: Callable[..., Service]) -> Service:
    return new_service(RAYTES_NETWORK="none").start()


def submit(service: Service) -> str:
    """A task whose system log gets a line every few tenths of a second."""
    executors = [service.executor("sleep", "0.3") for _ in range(EXECUTORS)]
    return service.client.create({"executors": executors})


def store(service: Service) -> int:
    [pid] = [pid for pid, line in service.processes() if line.startswith("ray::Store")]
    return pid


def check_nothing_is_missing_or_doubled(task: TesTask) -> None:
    assert task.state is TesState.COMPLETE
    [attempt] = task.logs or []
    said = re.findall(r"executor (\d+) ended with exit code 0", " ".join(attempt.system_logs or ()))
    assert said == [str(number) for number in range(EXECUTORS)]
    assert [one.exit_code for one in attempt.logs] == [0] * EXECUTORS


def test_what_is_said_while_the_store_is_frozen_arrives_when_it_goes_on(alone: Service) -> None:
    task_id = submit(alone)
    alone.await_state(task_id, TesState.RUNNING)
    os.kill(store(alone), signal.SIGSTOP)
    # Until the runner has come to the task's end, which nobody can be told of meanwhile.
    time.sleep(EXECUTORS * 0.7)
    os.kill(store(alone), signal.SIGCONT)
    check_nothing_is_missing_or_doubled(alone.finish(task_id))


def test_what_is_said_while_the_store_dies_again_and_again_is_kept_once(alone: Service) -> None:
    task_id = submit(alone)
    alone.await_state(task_id, TesState.RUNNING)
    for _ in range(3):
        os.kill(store(alone), signal.SIGKILL)
        deadline = time.monotonic() + 30
        while True:
            try:
                store(alone)
                break
            except ValueError:
                assert time.monotonic() < deadline, "the store does not come back"
                time.sleep(0.1)
    check_nothing_is_missing_or_doubled(alone.finish(task_id))
