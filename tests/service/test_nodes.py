"""Nodes that are ill, and nodes that are lost."""

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from raytes.models import TesState, TesTask
from tests.images import Images
from tests.service.ray_cluster import IMPATIENT, RayCluster
from tests.service.running import Service

SMALL = {"cpu_cores": 1, "ram_gb": 0.128}
LARGE = {"cpu_cores": 3, "ram_gb": 0.128}  # more than the head node has


@pytest.fixture(scope="module")
def cluster(podman_images: Images) -> Iterator[RayCluster]:
    cluster = RayCluster(cpus=1, **IMPATIENT)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def shared(
    cluster: RayCluster, podman_images: Images, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    service = cluster.service(tmp_path_factory.mktemp("nodes"), podman_images.busybox)
    yield service.start()
    assert service.stop() == 0
    assert service.containers() == []


@pytest.fixture
def joined(cluster: RayCluster, shared: Service) -> Service:
    """A service on a cluster that has its head alone."""
    cluster.stop_others()
    await_node(shared, 1)
    shared.hold()
    return shared


def programs_without_podman(directory: Path) -> Path:
    """A directory for PATH, with all programs that there are but Podman."""
    directory.mkdir()
    for place in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        for program in Path(place).iterdir():
            link = directory / program.name
            if program.name != "podman" and not link.is_symlink():
                link.symlink_to(program)
    return directory


def await_node(service: Service, count: int, shortcoming: str = "") -> None:
    """Wait until the service has looked at so many nodes, and one has that shortcoming."""
    service.await_health(
        lambda health: (
            [node["shortcomings"] is None for node in health["nodes"]] == [False] * count
            and shortcoming in str(health["nodes"])
        )
    )


def reasons(task: TesTask) -> list[str | None]:
    return [(log.metadata or {}).get("failure_reason") for log in task.logs or []]


@pytest.mark.slow
def test_an_ill_node_gets_no_task_and_those_for_it_wait_until_it_is_well(
    cluster: RayCluster, joined: Service, tmp_path: Path
) -> None:
    programs = programs_without_podman(tmp_path / "programs")
    cluster.add_node(cpus=4, PATH=str(programs))
    # While nothing is known of the node: it has the more room.
    tasks = [joined.submit("true", resources=SMALL) for _ in range(6)]
    large = joined.submit("true", resources=LARGE)
    for task_id in tasks:
        task = joined.finish(task_id)
        assert task.state is TesState.COMPLETE
        assert len(task.logs or []) == 1
    told = joined.await_system_log(large, "this node has no Podman")
    assert told.state is TesState.QUEUED
    podman = shutil.which("podman")
    assert podman is not None
    (programs / "podman").symlink_to(podman)
    task = joined.finish(large)
    assert task.state is TesState.COMPLETE
    assert reasons(task) == [None]


HIDE_RAYTES = """\
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "raytes":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Hidden())
"""


@pytest.mark.slow
def test_a_node_without_raytes_gets_no_task(
    cluster: RayCluster, joined: Service, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDE_RAYTES)
    cluster.add_node(cpus=4, PYTHONPATH=str(tmp_path))
    tasks = [joined.submit("true", resources=SMALL) for _ in range(4)]
    for task_id in tasks:
        task = joined.finish(task_id)
        assert task.state is TesState.COMPLETE
        assert len(task.logs or []) == 1
    await_node(joined, 2, "raytes can't be run on this node")


def node_of(task: TesTask) -> str:
    [log] = task.logs or []
    return (log.metadata or {})["node"]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a node a name of its own")
def test_what_uses_a_root_that_is_not_shared_is_run_on_the_node_that_serves(
    cluster: RayCluster, joined: Service
) -> None:
    name_it = ("unshare", "--uts", "sh", "-c", 'hostname another-node && exec "$@"', "sh")
    cluster.add_node(cpus=4, within=name_it)
    await_node(joined, 2)
    own = joined.files.parent / "own"
    (own / "in").write_text("in")
    read = {"inputs": [{"url": f"file://{own}/in", "path": "/in"}]}
    write = {"outputs": [{"url": str(own / "out"), "path": "/o/out"}]}
    ids = [joined.submit("cp", "/in", "/etc/in", resources=SMALL, **read) for _ in range(2)]
    ids += [joined.submit("cp", "/etc/passwd", "/o/out", resources=SMALL, **write)]
    tasks = [joined.finish(task_id) for task_id in ids]
    assert {task.state for task in tasks} == {TesState.COMPLETE}
    assert {node_of(task) for task in tasks} == {socket.gethostname()}
    assert (own / "out").exists()
    assert node_of(joined.run("true", resources=LARGE)) == "another-node"


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ("", "node_lost"),
        pytest.param("ray.io/market-type=spot", "preempted", marks=pytest.mark.slow),
    ],
)
def test_the_tasks_of_a_killed_node_are_tried_again_elsewhere(
    cluster: RayCluster, joined: Service, labels: str, reason: str
) -> None:
    node = cluster.add_node(cpus=3, labels=labels)
    task_id = joined.submit_waiting(resources=LARGE)
    node.signal(signal.SIGKILL)
    cluster.add_node(cpus=3)
    joined.let_go()
    task = joined.finish(task_id)
    assert task.state is TesState.COMPLETE
    assert reasons(task) == [reason, None]
    assert "missing too many heartbeats" in (task.logs or [])[0].system_logs[-1]


@pytest.mark.slow
def test_a_frozen_node_that_comes_back_after_it_was_given_up_says_and_stores_nothing_more(
    cluster: RayCluster, joined: Service
) -> None:
    node, result = cluster.add_node(cpus=3), joined.files / "result"
    task_id = joined.submit_waiting(
        then="tee /out/it < /proc/sys/kernel/random/uuid",
        outputs=[{"path": "/out/it", "url": f"file://{result}"}],
        resources=LARGE,
    )
    frozen = node.signal(signal.SIGSTOP)
    cluster.add_node(cpus=3)
    joined.await_system_log(task_id, "was lost")
    joined.let_go()
    task = joined.finish(task_id)
    assert task.state is TesState.COMPLETE
    assert reasons(task) == ["node_lost", None]
    for pid in frozen:
        with suppress(ProcessLookupError):  # its parent was quicker to end it
            os.kill(pid, signal.SIGCONT)
    node.process.wait(timeout=60)
    assert joined.finish(task_id) == task
    assert (task.logs or [])[-1].logs[0].stdout == f"up\n{result.read_text()}"
    assert sorted(path.name for path in joined.files.iterdir()) == ["go", "result"]
