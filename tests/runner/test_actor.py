"""The runner on Ray."""

import os
import re
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray

from raytes import ids
from raytes.attempt import Assignment, Receipt, Update
from raytes.config import Settings
from raytes.models import TesState, TesTask
from raytes.runner.actor import Runner
from tests.images import Images
from tests.storage.faulty_proxy import faulty_proxy

NONE: dict[str, Any] = {}


class Store:
    """Keeps what a runner reports."""

    def __init__(self) -> None:
        self._updates: list[Update] = []

    def report(self, updates: list[Update]) -> None:
        self._updates += updates

    def updates(self) -> list[Update]:
        return self._updates


class SilentStore(Store):
    """Is asked for leave and never answers."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = threading.Event()

    def authorize(self, task_id: str, attempt: int, receipts: list[Receipt]) -> bool:
        self._asked.set()
        threading.Event().wait()
        return False

    def asked(self) -> bool:
        return self._asked.wait(60)


class WillingStore(Store):
    """Gives leave to whoever asks."""

    def authorize(self, task_id: str, attempt: int, receipts: list[Receipt]) -> bool:
        return True


@pytest.fixture(scope="module")
def cluster(podman_images: Images) -> Iterator[None]:
    ray.init(
        num_cpus=1,
        num_gpus=2,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        _system_config={"metrics_report_interval_ms": 200},
    )
    yield
    ray.shutdown()


@pytest.fixture
def store(cluster: None) -> Iterator[Any]:
    store = ray.remote(Store).options(name="store", num_cpus=0).remote()
    yield store
    ray.kill(store)


def start(directory: Path, settings: dict[str, Any] = NONE, **options: Any) -> Any:
    settings = {"network": "none", "default_ram_gb": 0.1, **settings}
    return (
        ray.remote(Runner)
        .options(num_cpus=1, **options)
        .remote(
            Settings(state_dir=directory, **settings),
            uuid.uuid4().hex,
            "runner-1",
            "store",
            "shape",
        )
    )


@pytest.fixture
def runner(store: Any, tmp_path: Path) -> Iterator[Any]:
    runner = start(tmp_path)
    yield runner
    ray.kill(runner)


@pytest.fixture
def gpu_runner(store: Any, tmp_path: Path) -> Iterator[Any]:
    runner = start(tmp_path, num_gpus=1)
    yield runner
    ray.kill(runner)


@dataclass
class Storing:
    """A runner that is about to store the output of its task."""

    store: Any
    runner: Any
    assignment: Assignment
    end: Any
    files: Path


def await_name_free(name: str) -> None:
    """Ray forgets the name of an actor that was killed a moment later."""
    deadline = time.monotonic() + 60
    while name in ray.util.list_named_actors():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assignment(images: Images, *command: str, **task: Any) -> Assignment:
    task["executors"] = [{"image": images.busybox, "command": list(command)}]
    return Assignment(ids.mint(), 1, TesTask.model_validate(task))


def until_running(store: Any, one: Assignment) -> None:
    deadline = time.monotonic() + 60
    running = threading.Event()
    while not running.is_set():
        assert time.monotonic() < deadline
        updates = ray.get(store.updates.remote())
        if any((u.task_id, u.state) == (one.task_id, TesState.RUNNING) for u in updates):
            running.set()


def test_a_runner_runs_tasks(runner: Any, podman_images: Images) -> None:
    # Whether so short a task says that it has started is left open: its end says all of it.
    one = assignment(podman_images, "echo", "hello")
    last = ray.get(runner.run.remote(one))
    assert last.state is TesState.COMPLETE
    assert last.tails[0].stdout == "hello\n"
    assert ray.get(runner.run.remote(one)) == last
    info = ray.get(runner.describe.remote())
    assert (info.runner_id, info.shape, info.current) == ("runner-1", "shape", None)
    assert info.node_id == ray.nodes()[0]["NodeID"]


def test_a_runner_reports_that_a_task_has_started_and_gives_all_who_ask_the_same_end(
    runner: Any, store: Any, podman_images: Images
) -> None:
    one = assignment(podman_images, "sleep", "600")
    first = runner.run.remote(one)
    until_running(store, one)
    second = runner.run.remote(one)
    assert ray.get(runner.describe.remote()).current == (one.task_id, 1)
    ray.get(runner.cancel.remote(one.task_id, 2))  # another attempt: nothing happens
    ray.get(runner.cancel.remote(one.task_id, 1))
    ends = ray.get([first, second])
    assert ends[0] == ends[1]
    assert ends[0].state is TesState.CANCELED


def test_a_runner_answers_however_often_it_was_asked_for_the_same_attempt(
    runner: Any, store: Any, podman_images: Images
) -> None:
    one = assignment(podman_images, "sleep", "600")
    asked = [runner.run.remote(one) for _ in range(50)]  # by as many stores that died
    until_running(store, one)
    assert ray.get(runner.describe.remote(), timeout=60).current == (one.task_id, 1)
    ray.get(runner.cancel.remote(one.task_id, 1), timeout=60)
    assert {last.state for last in ray.get(asked)} == {TesState.CANCELED}


@pytest.mark.slow
def test_the_end_of_an_attempt_does_not_hide_the_one_that_was_asked_for_meanwhile(
    runner: Any, store: Any, podman_images: Images
) -> None:
    first, second = (assignment(podman_images, "sleep", time) for time in ("2", "600"))
    ends = [runner.run.remote(first)]
    until_running(store, first)  # else Ray may deliver the second call before it
    ends.append(runner.run.remote(second))
    assert ray.get(ends[0], timeout=60).state is TesState.COMPLETE
    assert ray.get(runner.describe.remote()).current == (second.task_id, 1)
    ray.get(runner.cancel.remote(second.task_id, 1))
    assert ray.get(ends[1], timeout=60).state is TesState.CANCELED


def test_a_runner_that_is_stopped_gives_its_task_back(
    runner: Any, store: Any, podman_images: Images
) -> None:
    one = assignment(podman_images, "sleep", "600")
    running = runner.run.remote(one)
    until_running(store, one)
    ray.get(runner.stop.remote())
    last = ray.get(running)
    assert (last.state, last.retry) == (TesState.QUEUED, True)


@pytest.fixture
def storing(cluster: None, tmp_path: Path, podman_images: Images) -> Iterator[Storing]:
    """A runner at a task whose output waits for leave from a store that doesn't answer."""
    store = ray.remote(SilentStore).options(name="store", num_cpus=0, max_concurrency=4).remote()
    (tmp_path / "files").mkdir()
    runner = start(tmp_path)
    output = {"path": "/o/f", "url": str(tmp_path / "files/f")}
    one = assignment(podman_images, "touch", "/o/f", outputs=[output])
    end = runner.run.remote(one)
    assert ray.get(store.asked.remote())
    yield Storing(store, runner, one, end, tmp_path / "files")
    ray.kill(runner)


def test_a_runner_asks_for_leave_again_when_the_store_has_been_replaced(storing: Storing) -> None:
    ray.kill(storing.store)
    await_name_free("store")
    store = ray.remote(WillingStore).options(name="store", num_cpus=0).remote()
    assert ray.get(storing.end, timeout=60).state is TesState.COMPLETE
    assert os.listdir(storing.files) == ["f"]
    ray.kill(store)


def test_an_attempt_that_waits_for_leave_can_be_cancelled(storing: Storing) -> None:
    ray.get(storing.runner.cancel.remote(storing.assignment.task_id, 1))
    assert ray.get(storing.end, timeout=60).state is TesState.CANCELED
    assert os.listdir(storing.files) == []
    ray.kill(storing.store)


def test_a_runner_asks_podman_for_the_gpu_that_ray_has_assigned_to_it(
    gpu_runner: Any, podman_images: Images
) -> None:
    # Ray counts two GPUs that aren't there, and Podman says which of them it was asked for.
    last = ray.get(gpu_runner.run.remote(assignment(podman_images, "true")))
    assert last.log.metadata["failure_reason"] == "container_refused"
    [asked] = set(re.findall(r"nvidia\.com/gpu=\w+", " ".join(last.system_logs)))
    assert asked in ("nvidia.com/gpu=0", "nvidia.com/gpu=1")


def test_what_the_cache_served_can_be_scraped_from_the_node(
    store: Any, tmp_path: Path, podman_images: Images
) -> None:
    with faulty_proxy() as server:
        server.files = {"/a": b"a" * 10, "/b": b"b" * 100}
        inputs = [{"url": f"{server.url}/{name}", "path": f"/in/{name}"} for name in "ab"]
        settings = {"name": "counted", "schemes": ("http",), "storage": {server.url: {}}}
        runner = start(tmp_path, settings)
        for these in (inputs[:1], inputs):
            last = ray.get(runner.run.remote(assignment(podman_images, "true", inputs=these)))
            assert last.state is TesState.COMPLETE
        counted = until_counted('service="counted"', 4)
        ray.kill(runner)
    assert counted == {
        ("ray_raytes_input_files_total", "miss"): 2,
        ("ray_raytes_input_bytes_total", "miss"): 110,
        ("ray_raytes_input_files_total", "hit"): 1,
        ("ray_raytes_input_bytes_total", "hit"): 10,
    }


def test_a_runner_uses_the_places_that_its_node_says(
    store: Any, tmp_path: Path, podman_images: Images
) -> None:
    places = {"RAYTES_SCRATCH_DIR": str(tmp_path / "own")}
    runner = start(tmp_path / "state", runtime_env={"env_vars": places})
    assert ray.get(runner.run.remote(assignment(podman_images, "true"))).state is TesState.COMPLETE
    ray.kill(runner)
    assert list((tmp_path / "own").iterdir())
    assert not (tmp_path / "state/scratch").exists()


def until_counted(tag: str, samples: int) -> dict[tuple[str, str], float]:
    """The samples with a tag that Ray's agent exports, by name and `cache`, once they are all."""
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    deadline = time.monotonic() + 60
    found: dict[tuple[str, str], float] = {}
    while len(found) < samples:
        assert time.monotonic() < deadline
        time.sleep(0.1)  # Ray exports at intervals and tells nobody
        for line in httpx.get(url).text.splitlines():
            if tag in line and (match := re.match(r'(\w+)\{.*cache="(\w+)".*\} (\S+)', line)):
                found[match[1], match[2]] = float(match[3])
    return found
