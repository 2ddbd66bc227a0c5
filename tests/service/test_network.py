"""A node that is cut off from the network as a whole, for longer than Ray bears it."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raytes.models import TesState
from tests.images import Images
from tests.service.ray_cluster import IMPATIENT, RayCluster
from tests.service.running import Service

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("ip"), reason="only root can make networks"
    ),
]

HOST, OTHER = "10.213.7.1", "10.213.7.2"
ROOM = {"cpu_cores": 3, "ram_gb": 0.128}  # more than the head node has

# Which attempt it was is what the output and the stdout have in common.
SCRIPT = """
cat /proc/sys/kernel/random/uuid | tee /out/which
until [ -e /files/go ]; do sleep 0.1; done
"""


@contextmanager
def host_beside_this_one() -> Iterator[str]:
    """The network namespace of another host, on a cable of its own."""
    name = f"raytes-{secrets.token_hex(3)}"
    cable = f"{name}-a"[:15]
    try:
        for command in (
            f"netns add {name}",
            f"link add {cable} type veth peer name cable netns {name}",
            f"address add {HOST}/24 dev {cable}",
            f"link set {cable} up",
            f"-n {name} address add {OTHER}/24 dev cable",
            f"-n {name} link set cable up",
            f"-n {name} link set lo up",
        ):
            ip(command)
        yield name
    finally:
        ip(f"netns delete {name}")  # and with it the cable


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


@pytest.fixture
def other_host() -> Iterator[str]:
    with host_beside_this_one() as name:
        yield name


@pytest.fixture
def cluster(podman_images: Images, other_host: str) -> Iterator[RayCluster]:
    cluster = RayCluster(cpus=1, host=HOST, **IMPATIENT)
    yield cluster
    cluster.stop()


@pytest.fixture
def service(cluster: RayCluster, podman_images: Images, tmp_path: Path) -> Iterator[Service]:
    service = cluster.service(tmp_path, podman_images.busybox)
    yield service.start()
    assert service.stop() == 0
    assert service.containers() == []


def test_a_node_that_is_cut_off_for_too_long_is_given_up_and_its_late_attempt_fenced(
    cluster: RayCluster, service: Service, other_host: str
) -> None:
    # Not `ip netns exec`, which hides the mounted cgroups.
    there = ("nsenter", f"--net=/run/netns/{other_host}")
    cut_off = cluster.add_node(cpus=3, host=OTHER, within=there)
    task_id = service.submit(
        "sh",
        "-c",
        SCRIPT,
        inputs=[{"url": f"file://{service.files}", "path": "/files", "type": "DIRECTORY"}],
        outputs=[{"path": "/out/which", "url": f"file://{service.files}/which"}],
        resources=ROOM,
    )
    service.await_stdout(task_id, "-")
    ip(f"-n {other_host} link set cable down")
    cluster.add_node(cpus=3)
    service.await_system_log(task_id, "was lost")
    # Both attempts, the one that is given up and the one after it, come to their outputs.
    (service.files / "go").touch()
    task = service.finish(task_id)
    ip(f"-n {other_host} link set cable up")
    cut_off.process.wait(timeout=120)

    assert task.state is TesState.COMPLETE
    lost, last = task.logs or []
    assert (lost.metadata or {}).get("failure_reason") == "node_lost"
    assert lost.outputs == []
    assert (service.files / "which").read_text() == last.logs[0].stdout
    assert lost.logs[0].stdout != last.logs[0].stdout
    assert service.finish(task_id) == task
