"""The node's Podman service, shared by processes that may be killed."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raytes.errors import PodmanUnavailable
from raytes.runner.service import PodmanService, runtime_directory
from tests.images import Images

_USER = """
import sys
from raytes.runner.service import PodmanService
service = PodmanService(None, sys.argv[1])
engine = service.engine()
if len(sys.argv) > 2:
    container, _ = engine.create({
        "image": sys.argv[2], "command": ["sleep", "600"], "entrypoint": [],
        "netns": {"nsmode": "none"}, "labels": {"raytes.instance": sys.argv[1]},
    })
    engine.start(container)
print(engine.address, flush=True)
sys.stdin.read()
"""


class User:
    """Another process that uses the service."""

    def __init__(self, instance: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _USER, instance, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = Path(self.process.stdout.readline().strip())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def instance(podman_images: Images) -> Iterator[str]:
    instance = uuid.uuid4().hex
    yield instance
    wait_until(lambda: processes(instance) == [])
    directory = runtime_directory(instance)
    assert list(directory.iterdir()) == []
    directory.rmdir()


def processes(instance: str) -> list[int]:
    """The Podman services and watchers of an instance."""
    name = runtime_directory(instance).name
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes()
        except OSError:
            continue
        if name.encode() in line:
            found.append(int(entry.parent.name))
    return found


def service_pid(instance: str) -> int:
    for pid in processes(instance):
        if b"podman\0system\0service" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError("there is no service")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_runners_of_a_node_share_one_service(instance: str) -> None:
    users = [User(instance) for _ in range(3)]
    assert len({user.address for user in users}) == 1
    services = [
        pid
        for pid in processes(instance)
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"podman\0system\0service")
    ]
    assert len(services) == 1
    for user in users:
        user.kill()


def test_the_service_outlives_the_runner_that_started_it(instance: str) -> None:
    first, second = User(instance), User(instance)
    pid = service_pid(instance)
    first.kill()
    service = PodmanService(None, instance)
    assert service.engine().ping()
    assert service_pid(instance) == pid
    service.release()
    second.kill()


def test_what_killed_runners_have_left_is_gone_with_the_last_of_them(
    instance: str, podman_images: Images
) -> None:
    user = User(instance, podman_images.busybox)
    user.kill()
    wait_until(lambda: processes(instance) == [])
    left = subprocess.run(
        ["podman", "ps", "-aq", "--filter", f"label=raytes.instance={instance}"],
        check=True, text=True, capture_output=True,
    )  # fmt: skip
    assert left.stdout == ""


def test_a_service_that_died_is_started_again(instance: str) -> None:
    service = PodmanService(None, instance)
    service.engine()
    os.kill(service_pid(instance), signal.SIGKILL)
    wait_until(lambda: not service_is_there(instance))
    assert service.engine().ping()
    service.release()


def service_is_there(instance: str) -> bool:
    try:
        return service_pid(instance) > 0
    except (AssertionError, OSError):
        return False


def test_a_socket_that_does_not_answer_is_named(tmp_path: Path) -> None:
    socket = tmp_path / "podman.sock"
    with pytest.raises(PodmanUnavailable, match=str(socket)):
        PodmanService(socket, "instance").engine()


def test_a_node_without_podman_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PodmanUnavailable, match="apt-get install podman"):
        PodmanService(None, "instance").engine()
