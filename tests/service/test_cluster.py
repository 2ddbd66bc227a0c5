"""A service on a Ray cluster that was there before it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from raytes.models import TesState
from tests.images import Images
from tests.service.ray_cluster import RayCluster
from tests.service.running import Service

NewService = Callable[..., Service]


@pytest.fixture(scope="module")
def cluster(podman_images: Images) -> Iterator[dict[str, str]]:
    """A head node; the environment of who may join it."""
    cluster = RayCluster(cpus=2)
    yield cluster.environment
    cluster.stop()


@pytest.fixture(scope="module")
def shared(
    cluster: dict[str, str], podman_images: Images, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("joined") / "state", podman_images.busybox, **cluster)
    yield service
    assert service.stop() == 0


@pytest.fixture
def joined(shared: Service) -> Service:
    """A service that has joined the cluster, started again where a test has stopped it."""
    return shared if shared.process else shared.start()


def test_a_task_goes_on_while_the_serving_process_is_killed_and_replaced(joined: Service) -> None:
    task_id = joined.submit_waiting()
    joined.stop(signal.SIGKILL)
    assert joined.client.state(task_id) is TesState.RUNNING
    queued = joined.submit("true")
    joined.start()
    # The new one knows where the Serve that it found listens.
    assert httpx.get(f"{joined.url}/tasks", headers={"Host": "rebound.example"}).status_code == 421
    joined.let_go()
    task = joined.finish(task_id)
    assert task.state is TesState.COMPLETE
    assert len(task.logs or []) == 1
    assert joined.finish(queued).state is TesState.COMPLETE


def test_a_second_service_of_the_name_is_refused(joined: Service, new_service: NewService) -> None:
    second = new_service("second", **joined.environment)
    refused = subprocess.run(
        [sys.executable, "-m", "raytes", "serve"],
        env={**os.environ, **second.environment, "RAYTES_STATE_DIR": str(second.state_dir)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert refused.returncode == 1
    assert "a service named raytes is being served on this cluster" in refused.stderr
    assert "token" not in refused.stderr  # the cluster asks for one
    assert joined.run("true").state is TesState.COMPLETE


def test_a_stopped_service_leaves_the_cluster_as_it_was(
    cluster: dict[str, str], joined: Service
) -> None:
    joined.submit("sleep", "600")
    joined.await_state(joined.submit("true"), TesState.COMPLETE)
    assert joined.stop() == 0
    assert joined.containers() == []
    list_actors = "import ray; ray.init(); print(ray.util.list_named_actors(all_namespaces=True))"
    deadline = time.monotonic() + 30
    while True:
        actors = subprocess.run(
            [sys.executable, "-c", list_actors],
            env={**os.environ, **cluster},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        if actors == "[]":
            break
        assert time.monotonic() < deadline, actors


@pytest.fixture(scope="module")
def open_cluster(podman_images: Images) -> Iterator[dict[str, str]]:
    """A head node that asks nobody for a token; the environment of who joins it."""
    cluster = RayCluster(cpus=1, RAY_AUTH_MODE="disabled")
    yield cluster.environment
    cluster.stop()


_JOIN = """
from raytes.cluster import joined_ray
from raytes.config import Settings
with joined_ray(Settings()):
    print("joined")
"""


def join(environment: dict[str, str], mode: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _JOIN],
        env={**os.environ, **environment, "RAY_AUTH_MODE": mode},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.slow
def test_a_cluster_that_asks_for_no_token_is_warned_of(open_cluster: dict[str, str]) -> None:
    joined = join(open_cluster, mode="disabled")
    assert "joined" in joined.stdout, joined.stderr
    assert "WARNING: this Ray cluster asks nobody for a token" in joined.stderr


@pytest.mark.slow
def test_a_cluster_that_asks_for_no_token_can_not_be_joined_with_one(
    open_cluster: dict[str, str],
) -> None:
    refused = join(open_cluster, mode="token")
    assert refused.returncode != 0
    assert "ClusterUnreachable: this Ray cluster asks nobody for a token" in refused.stderr
    assert "RAY_AUTH_MODE=disabled" in refused.stderr
