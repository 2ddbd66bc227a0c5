"""The node's Podman service, shared by processes that may be killed."""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest

from raytes.config import Settings
from raytes.errors import PodmanUnavailable
from raytes.runner.service import _WATCHER, PodmanService, _OwnService, runtime_directory
from tests.child_processes import children
from tests.images import Images
from tests.podman import podman
from tests.scripts import write_script
from tests.small_disk import full, mounted

_USER = """
import sys
from raytes.config import Settings
from raytes.runner.service import PodmanService
service = PodmanService(Settings(state_dir=sys.argv[1]), sys.argv[2])
engine = service.engine()
if len(sys.argv) > 3:
    container, _ = engine.create({
        "image": sys.argv[3], "command": ["sleep", "600"], "entrypoint": [],
        "netns": {"nsmode": "none"}, "labels": {"raytes.instance": sys.argv[2]},
        "volumes": [{"Dest": "/volume"}],
    })
    engine.start(container)
print(engine.address, flush=True)
sys.stdin.read()
"""


class User:
    """Another process that uses the service."""

    def __init__(self, settings: Settings, instance: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _USER, str(settings.state_dir), instance, *arguments],
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
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state")


@pytest.fixture
def instance(podman_images: Images) -> Iterator[str]:
    instance = uuid.uuid4().hex
    yield instance
    wait_until(lambda: processes(instance) == [])
    directory = runtime_directory(instance)
    assert list(directory.iterdir()) == []
    directory.rmdir()


def processes(instance: str, beginning: bytes = b"") -> list[int]:
    """The Podman services and watchers of an instance whose command line begins so."""
    name = runtime_directory(instance).name
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes()
        except OSError:
            continue
        if name.encode() in line and line.startswith(beginning):
            found.append(int(entry.parent.name))
    return found


def services(instance: str) -> list[int]:
    return processes(instance, b"podman\0system\0service")


def watchers(instance: str) -> set[int]:
    return set(processes(instance, b"sh\0-c\0\nsocket="))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_runners_of_a_node_share_one_service(settings: Settings, instance: str) -> None:
    users = [User(settings, instance) for _ in range(3)]
    assert len({user.address for user in users}) == 1
    assert len(services(instance)) == 1
    for user in users:
        user.kill()


def test_the_service_outlives_the_runner_that_started_it(settings: Settings, instance: str) -> None:
    first, second = User(settings, instance), User(settings, instance)
    before = services(instance)
    first.kill()
    service = PodmanService(settings, instance)
    assert service.engine().ping()
    assert services(instance) == before
    service.release()
    second.kill()


def test_what_killed_runners_have_left_is_gone_with_the_last_of_them(
    settings: Settings, instance: str, podman_images: Images
) -> None:
    user = User(settings, instance, podman_images.busybox)
    containers = ("ps", "-aq", "--filter", f"label=raytes.instance={instance}")
    name = "{{range .Mounts}}{{.Name}}{{end}}"
    [volume] = podman("inspect", "--format", name, *podman(*containers).split()).split()
    user.kill()
    wait_until(lambda: processes(instance) == [])
    assert podman(*containers) == ""
    assert volume not in podman("volume", "ls", "--quiet").split()


def test_a_service_that_died_is_started_again(settings: Settings, instance: str) -> None:
    service = PodmanService(settings, instance)
    service.engine()
    kill_service(instance)
    assert service.engine().ping()
    service.release()


def test_the_watcher_of_a_service_that_died_lets_those_alone_that_come_later(
    settings: Settings, instance: str, podman_images: Images
) -> None:
    service = PodmanService(settings, instance)
    service.engine()
    first = watchers(instance)
    kill_service(instance)
    service.engine()
    (second,) = watchers(instance) - first
    waits = [pid for pid in children(second) if name_of(pid) == "flock"]
    assert waits
    for pid in waits:
        os.kill(pid, signal.SIGSTOP)
    service.release()
    wait_until(lambda: not first & watchers(instance))
    later = User(settings, instance, podman_images.busybox)
    for pid in waits:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: second not in watchers(instance))
    service = PodmanService(settings, instance)
    assert len(service.engine().containers([f"raytes.instance={instance}"])) == 1
    assert later.address.exists()
    service.release()
    later.kill()


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_a_service_that_is_killed_while_it_starts_is_not_waited_for(
    settings: Settings, instance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_script(tmp_path / "podman", "kill -KILL $$")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(PodmanUnavailable, match="ended while it started"):
        PodmanService(settings, instance).engine()


def test_a_podman_that_does_not_tell_of_its_conmon_is_asked_once(
    settings: Settings, instance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    write_script(tmp_path / "podman", f'echo "$1" >>{asked}; exit 1')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    service = _OwnService(instance, settings.scratch)
    with pytest.raises(PodmanUnavailable, match="ended while it started"):
        service.engine()
    assert asked.read_text().split().count("info") == 1
    service.release()


def test_a_service_that_becomes_another_program_has_not_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For a moment of that, the kernel shows no command line."""
    read_bytes = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda self: b"" if self.name == "cmdline" else read_bytes(self)
    )
    started = subprocess.Popen(["sleep", "60"])
    runs = partial(_OwnService._runs, Mock(), str(started.pid))
    assert runs()
    started.kill()
    os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOWAIT)  # a zombie until it is reaped
    assert not runs()
    started.wait()
    assert not runs()


@pytest.fixture
def watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], "subprocess.Popen[str]"]:
    """Starts a watcher of a service that is no Podman."""
    write_script(tmp_path / "podman", f'if [ "$1" = system ]; then touch {tmp_path}/ran; fi')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    names = [tmp_path / "run" / name for name in ("socket", "users", "log", "label", "conmon")]
    (tmp_path / "run").mkdir()
    command = ["sh", "-c", _WATCHER, "watcher", *map(str, names)]
    return lambda stdout: subprocess.Popen(command, stdout=stdout, text=True)


def test_a_watcher_outlives_the_runner_that_starts_it(
    watch: Callable[[int], "subprocess.Popen[str]"],
) -> None:
    nobody_reads, output = os.pipe()
    os.close(nobody_reads)
    watcher = watch(output)
    os.close(output)
    assert watcher.wait(30) == 0


def test_a_service_whose_watcher_dies_at_once_is_not_started(
    watch: Callable[[int], "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "watcher-is-dead")
    # Before it has asked the kernel to tell.
    step = f'cat {tmp_path}/watcher-is-dead; exec {shutil.which("setpriv")} "$@"'
    write_script(tmp_path / "setpriv", step)
    watcher = watch(subprocess.PIPE)
    assert watcher.stdout
    service = os.pidfd_open(int(watcher.stdout.readline()))
    watcher.kill()
    watcher.communicate()
    (tmp_path / "watcher-is-dead").write_text("")
    assert select.select([service], [], [], 30)[0]  # it has ended
    os.close(service)
    assert not (tmp_path / "ran").exists()


def test_a_service_does_not_outlive_its_watcher(settings: Settings, instance: str) -> None:
    service = PodmanService(settings, instance)
    service.engine()
    kill_watchers(instance)
    wait_until(lambda: services(instance) == [])
    assert service.engine().ping()
    service.release()


def test_nothing_is_left_of_a_service_that_was_killed_with_its_watcher(
    settings: Settings, instance: str
) -> None:
    service = PodmanService(settings, instance)
    service.engine()
    kill_watchers(instance)
    wait_until(lambda: services(instance) == [])
    service.release()
    wait_until(lambda: processes(instance) == [])
    assert list(settings.scratch.iterdir()) == []


def kill_watchers(instance: str) -> None:
    for pid in watchers(instance):
        os.kill(pid, signal.SIGKILL)


def kill_service(instance: str) -> None:
    (pid,) = services(instance)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: services(instance) == [])


def test_a_socket_that_does_not_answer_is_named(tmp_path: Path) -> None:
    socket = tmp_path / "podman.sock"
    with pytest.raises(PodmanUnavailable, match=str(socket)):
        PodmanService(Settings(podman_socket=socket), "instance").engine()


def test_a_node_without_podman_is_told_what_to_install(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PodmanUnavailable, match="apt-get install podman"):
        PodmanService(settings, "instance").engine()


def test_a_container_that_has_ended_costs_no_process_of_podman(
    settings: Settings, instance: str, podman_images: Images
) -> None:
    service = PodmanService(settings, instance)
    engine = service.engine()
    container, _ = engine.create(
        {"image": podman_images.busybox, "command": ["sleep", "600"], "netns": {"nsmode": "none"}}
    )
    try:
        engine.start(container)
        conmon = engine.inspect(container).conmon_pid
        arguments = Path(f"/proc/{conmon}/cmdline").read_bytes().split(b"\0")
        assert container.encode() in arguments
        assert not [argument for argument in arguments if b"exit-command" in argument]
    finally:
        engine.remove(container)
        service.release()


def conmon_of(instance: str) -> str | None:
    """The conmon that the service was told to use."""
    [service] = services(instance)
    line = Path(f"/proc/{service}/cmdline").read_text().split("\0")
    return line[line.index("--conmon") + 1] if "--conmon" in line else None


def test_on_a_full_disk_the_lean_conmon_lies_beside_the_socket(
    settings: Settings, instance: str
) -> None:
    with mounted(settings.state_dir, "1m") as mountable:
        if not mountable:
            pytest.skip("only root can mount a small disk")
        settings.scratch.mkdir()
        service = PodmanService(settings, instance)
        with full(settings.state_dir):
            assert service.engine().ping()
            assert list(settings.scratch.iterdir()) == []
        assert conmon_of(instance) == str(runtime_directory(instance) / "conmon")
        service.release()


def test_where_scripts_can_not_be_run_podman_has_its_own_conmon(
    settings: Settings, instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raytes.runner.lean_conmon._SCRIPT", "no script {conmon}")
    service = PodmanService(settings, instance)
    assert service.engine().ping()
    assert conmon_of(instance) is None
    service.release()
