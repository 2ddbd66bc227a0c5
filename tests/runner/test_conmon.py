"""conmon processes whose containers are gone."""

import os
import secrets
import signal
import subprocess
import sys
import uuid

import pytest

from raytes.runner.conmon import end_forgotten
from raytes.runner.task import Node
from tests.images import Images


def start(
    name: str, program: bytes = b"print()", storage: str = "/elsewhere"
) -> "subprocess.Popen[bytes]":
    """A process that looks like the conmon of a container which isn't there (in `storage`).

    It is a Python to which the container's id, all digits, is a program.
    """
    container = "".join(secrets.choice("123456789") for _ in range(64))
    bundle = f"{storage}/overlay-containers/{container}/userdata"
    arguments = ["conmon", "-i", "-c", container, "-n", name, "-b", bundle]
    process = subprocess.Popen(
        arguments,
        executable=sys.executable,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(program + b"\n")
    process.stdin.flush()
    process.stdout.readline()
    return process


def test_a_conmon_whose_container_is_gone_is_ended(node: Node) -> None:
    engine = node.podman.engine()
    storage = engine.info()["store"]["graphRoot"]
    forgotten = start(f"raytes-{uuid.uuid4().hex}", storage=storage)
    lines = end_forgotten(engine)
    assert forgotten.wait(10) == -signal.SIGKILL
    assert len(lines) == 1


@pytest.mark.parametrize("theirs", ["name", "Podman"])
def test_a_conmon_of_somebody_else_is_left_alone(node: Node, theirs: str) -> None:
    engine = node.podman.engine()
    if theirs == "name":
        other = start("their-container", storage=engine.info()["store"]["graphRoot"])
    else:
        other = start(f"raytes-{uuid.uuid4().hex}")
    end_forgotten(engine)
    assert other.poll() is None
    other.communicate(timeout=10)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_conmon_of_another_user_s_raytes_is_left_alone(node: Node) -> None:
    become = b"import os; os.setuid(65534); print()"
    engine = node.podman.engine()
    storage = engine.info()["store"]["graphRoot"]
    other = start(f"raytes-{uuid.uuid4().hex}", become, storage)
    end_forgotten(engine)
    assert other.poll() is None
    other.communicate(timeout=10)


def test_a_conmon_whose_container_is_there_is_left_alone(node: Node, podman_images: Images) -> None:
    engine = node.podman.engine()
    name = f"raytes-{uuid.uuid4().hex}"
    container, _ = engine.create(
        {
            "name": name,
            "image": podman_images.busybox,
            "command": ["sleep", "600"],
            "netns": {"nsmode": "none"},
        }
    )
    try:
        engine.start(container)
        assert not [line for line in end_forgotten(engine) if name in line]
        assert engine.inspect(container).status == "running"
    finally:
        engine.remove(container)
