"""The life of a task, with real containers."""

import hashlib
import os
import re
import shutil
import subprocess
import threading
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raytes.attempt import Update
from raytes.errors import ContainerRefused, PodmanUnavailable
from raytes.models import TesState
from raytes.runner.cgroup import Cgroup, Usage
from raytes.runner.control import Control
from raytes.runner.executor import Execution
from raytes.runner.podman import ContainerState, Engine
from raytes.runner.service import PodmanService
from raytes.runner.streams import StdinPump
from tests.podman import podman
from tests.runner.conftest import Attempt, Bench


def test_hello_world_is_complete(bench: Bench) -> None:
    attempt = bench.run(
        {"executors": [{"image": bench.images.busybox, "command": ["echo", "hello world"]}]}
    )
    assert attempt.state is TesState.COMPLETE
    assert attempt.stdout() == "hello world\n"
    assert attempt.stderr() == ""
    assert attempt.exit_codes == [0]
    assert attempt.executors[0].start_time
    assert attempt.executors[0].end_time


def run_until_told(bench: Bench) -> Attempt:
    """Run a task that ends when it was told that it runs."""
    told = bench.files / "told"
    told.mkdir()

    def said(update: Update) -> None:
        if update.state is TesState.RUNNING:
            (told / "running").touch()

    task = {
        "inputs": [{"url": str(told), "path": "/told", "type": "DIRECTORY"}],
        "executors": [bench.executor("until [ -e /told/running ]; do sleep 0.05; done")],
    }
    return bench.run(task, said=said)


def test_states_are_told_in_their_order_and_updates_are_numbered(bench: Bench) -> None:
    attempt = run_until_told(bench)
    assert [one.state for one in attempt.updates if one.state] == [
        TesState.RUNNING,
        TesState.COMPLETE,
    ]
    assert [one.seq for one in attempt.updates] == list(range(1, len(attempt.updates) + 1))


def test_while_it_runs_an_executor_is_in_the_log_with_exit_code_minus_one(bench: Bench) -> None:
    attempt = run_until_told(bench)
    running = next(one for one in attempt.updates if one.state is TesState.RUNNING)
    assert running.log is not None
    assert [one.exit_code for one in running.log.logs] == [-1]
    assert running.log.logs[0].end_time is None


def test_a_failing_command_is_an_executor_error_with_its_own_exit_code(bench: Bench) -> None:
    attempt = bench.sh("echo out; echo err >&2; exit 42")
    assert attempt.state is TesState.EXECUTOR_ERROR
    assert attempt.exit_codes == [42]
    assert (attempt.stdout(), attempt.stderr()) == ("out\n", "err\n")
    assert not attempt.last.retry


def test_a_missing_program_is_an_executor_error_with_exit_code_127(bench: Bench) -> None:
    attempt = bench.run(
        {"executors": [{"image": bench.images.busybox, "command": ["no-such-program"]}]}
    )
    assert attempt.state is TesState.EXECUTOR_ERROR
    assert attempt.exit_codes == [127]
    assert "no-such-program" in attempt.stderr()


def test_a_file_that_is_no_program_is_an_executor_error_with_exit_code_126(bench: Bench) -> None:
    attempt = bench.run(
        {"executors": [{"image": bench.images.busybox, "command": ["/etc/own.conf"]}]}
    )
    assert attempt.state is TesState.EXECUTOR_ERROR
    assert attempt.exit_codes == [126]


def test_an_image_that_does_not_exist_is_a_system_error_that_names_it(bench: Bench) -> None:
    image = "localhost:1/no/such-image:v7"
    attempt = bench.run({"executors": [{"image": image, "command": ["true"]}]}, pull_policy="never")
    assert attempt.state is TesState.SYSTEM_ERROR
    assert attempt.failure_reason == "image_pull"
    assert image in attempt.system_logs
    assert attempt.executors == []


def test_arguments_reach_the_program_byte_for_byte_without_a_shell(bench: Bench) -> None:
    arguments = ["a b", "'q\" \\", "", "new\nline", "üñí", "$HOME;`id`*"]
    attempt = bench.run(
        {"executors": [{"image": bench.images.bare, "command": ["/echo", "-n", *arguments]}]}
    )
    assert attempt.stdout() == " ".join(arguments)


def test_the_entrypoint_is_not_run_and_the_rest_of_the_image_counts(bench: Bench) -> None:
    attempt = bench.run(
        {
            "executors": [
                {
                    "image": bench.images.fussy,
                    "command": ["/bin/sh", "-c", "id -u; pwd; echo $COLOUR $SHAPE $X"],
                    "env": {"SHAPE": "square", "X": "1 = 2"},
                }
            ]
        }
    )
    assert attempt.stdout() == "1000\n/srv\ngreen square 1 = 2\n"


def test_a_workdir_is_made_if_it_is_missing(bench: Bench) -> None:
    attempt = bench.run({"executors": [bench.executor("pwd; echo x > y", workdir="/new/dir")]})
    assert attempt.state is TesState.COMPLETE
    assert attempt.stdout() == "/new/dir\n"


def test_stdin_is_read_from_an_input_whatever_its_bytes(bench: Bench) -> None:
    # Ctrl-P Ctrl-Q would detach a terminal.
    data = b"a\x10\x11\x00\xff\r\n" * 3_000_000
    (bench.files / "in").write_bytes(data)
    attempt = bench.run(
        {
            "inputs": [{"url": str(bench.files / "in"), "path": "/data/in"}],
            "executors": [bench.executor("md5sum", stdin="/data/in")],
        }
    )
    assert attempt.stdout() == f"{hashlib.md5(data).hexdigest()}  -\n"


def test_an_image_without_a_shell_has_all_three_streams(bench: Bench) -> None:
    executor = {
        "image": bench.images.bare,
        "command": ["/cat", "-", "/missing"],
        "stdin": "/data/in", "stdout": "/logs/out", "stderr": "/logs/err",
    }  # fmt: skip
    attempt = bench.run(
        {
            "inputs": [{"content": "text", "path": "/data/in"}],
            "executors": [executor],
            "outputs": [
                {"path": f"/logs/{name}", "url": str(bench.files / name)} for name in ("out", "err")
            ],
        }
    )
    assert attempt.exit_codes == [1]
    assert (bench.files / "out").read_text() == attempt.stdout() == "text"
    assert (bench.files / "err").read_text() == attempt.stderr()
    assert "/missing" in attempt.stderr()


@pytest.mark.slow
def test_what_is_read_and_written_takes_constant_memory(bench: Bench) -> None:
    """A gigabyte each way, in one line that never ends."""
    size = 10**9  # bytes
    with (bench.files / "in").open("wb") as file:
        file.truncate(size)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak_memory()
    attempt = bench.run(
        {
            "inputs": [{"url": str(bench.files / "in"), "path": "/data/in"}],
            "executors": [
                bench.executor(
                    "tr '\\0' x; printf end; head -c 500000000 /dev/zero | tr '\\0' y >&2",
                    stdin="/data/in",
                    stdout="/logs/out",
                )
            ],
            "outputs": [{"path": "/logs/out", "url": str(bench.files / "out")}],
        }
    )
    assert attempt.state is TesState.COMPLETE, attempt.system_logs
    assert peak_memory() - before < 50_000_000
    assert (bench.files / "out").stat().st_size == size + len("end")
    assert attempt.stdout() == "x" * (64 * 2**10 - len("end")) + "end"
    assert attempt.stderr() == "y" * (64 * 2**10)


def peak_memory() -> int:
    """The most that this process has had in memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


@pytest.mark.parametrize("script", ["sleep 0.2", "head -c 3", "exec <&-; sleep 0.2"])
def test_a_program_that_does_not_read_its_stdin_ends_all_the_same(
    bench: Bench, script: str
) -> None:
    (bench.files / "in").write_bytes(b"x" * 10_000_000)
    attempt = bench.run(
        {
            "inputs": [{"url": str(bench.files / "in"), "path": "/data/in"}],
            "executors": [bench.executor(script, stdin="/data/in")],
        }
    )
    assert attempt.state is TesState.COMPLETE
    assert attempt.stderr() == ""


def test_stdout_and_stderr_go_to_their_files_apart_and_whole(bench: Bench) -> None:
    script = "seq 200000; echo oops >&2"
    attempt = bench.run(
        {
            "executors": [
                bench.executor(script, stdout="/logs/out", stderr="/logs/err"),
                bench.executor("tail -n 1 /logs/out; cat /logs/err"),
                bench.executor("head -n 1", stdin="/logs/out"),
            ],
            "outputs": [
                {"path": "/logs/out", "url": str(bench.files / "out")},
                {"path": "/logs/err", "url": str(bench.files / "err")},
            ],
        }
    )
    assert attempt.state is TesState.COMPLETE
    expected = "".join(f"{n}\n" for n in range(1, 200001))
    assert (bench.files / "out").read_text() == expected
    assert (bench.files / "err").read_text() == "oops\n"
    assert attempt.stdout(0) == expected[-(64 * 2**10) :]
    assert attempt.stdout(1) == "200000\noops\n"
    assert attempt.stdout(2) == "1\n"


def test_stdout_and_stderr_may_share_a_file(bench: Bench) -> None:
    attempt = bench.run(
        {
            "executors": [
                bench.executor("echo a; sleep 0.1; echo b >&2", stdout="/o/log", stderr="/o/log")
            ],
            "outputs": [{"path": "/o/log", "url": str(bench.files / "log")}],
        }
    )
    assert attempt.state is TesState.COMPLETE
    assert (bench.files / "log").read_text() == "a\nb\n"


def test_the_tail_is_right_to_the_byte_and_bytes_that_are_no_text_are_replaced(
    bench: Bench,
) -> None:
    attempt = bench.run(
        {"executors": [bench.executor("printf 'ü\\377%.0s' $(seq 1000); printf end")]},
        log_tail_bytes=100,
    )
    # Each round is three bytes, so that 100 bytes begin in the middle of one, at its last.
    assert attempt.stdout() == "\ufffd" + "ü\ufffd" * 32 + "end"


def test_tails_can_be_seen_while_the_command_runs(bench: Bench) -> None:
    seen = threading.Event()
    go = bench.files / "go"
    go.mkdir()

    def said(update: Update) -> None:
        if any(tails.stdout == "first\n" for tails in update.tails.values()):
            seen.set()
            (go / "on").touch()

    attempt = bench.run(
        {
            "inputs": [{"url": str(go), "path": "/go", "type": "DIRECTORY"}],
            "executors": [
                bench.executor("echo first; until [ -e /go/on ]; do sleep 0.02; done; echo last")
            ],
        },
        said=said,
    )
    assert seen.is_set()
    assert attempt.stdout() == "first\nlast\n"


def test_the_next_container_is_created_while_the_last_one_is_removed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, remove, created = Engine.create, Engine.remove, list[str]()
    both = threading.Event()

    def create_and_tell(self: Engine, specification: Any) -> tuple[str, list[str]]:
        container, warnings = create(self, specification)
        created.append(container)
        if len(created) == 2:
            both.set()
        return container, warnings

    def await_and_remove(self: Engine, container: str) -> None:
        assert both.wait(30)
        remove(self, container)

    monkeypatch.setattr(Engine, "create", create_and_tell)
    monkeypatch.setattr(Engine, "remove", await_and_remove)
    attempt = bench.run({"executors": [bench.executor("true"), bench.executor("true")]})
    assert attempt.state is TesState.COMPLETE, attempt.system_logs
    assert bench.containers() == []


def test_executors_run_one_after_the_other_over_a_shared_volume(bench: Bench) -> None:
    attempt = bench.run(
        {
            "volumes": ["/vol"],
            "executors": [
                bench.executor("echo one > /vol/f"),
                {
                    "image": bench.images.fussy,
                    "command": ["/bin/sh", "-c", "echo two >> /vol/g && cat /vol/f /vol/g"],
                },
                bench.executor("cat /vol/f /vol/g"),
            ],
        }
    )
    assert attempt.state is TesState.COMPLETE
    assert attempt.stdout(2) == "one\ntwo\n"


def test_an_image_s_volume_is_there_though_no_layer_has_it(bench: Bench) -> None:
    look = {"image": bench.images.fussy, "command": ["test", "-d", "/made/by/nobody"]}
    attempt = bench.run({"executors": [look]})
    assert attempt.state is TesState.COMPLETE, attempt.exit_codes


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("script", "state"),
    [("touch /o/f", TesState.COMPLETE), ("echo up; sleep 600", TesState.CANCELED)],
)
def test_an_image_s_volume_is_gone_with_its_container(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, script: str, state: TesState
) -> None:
    create, volumes = Engine.create, list[str]()

    def create_and_look(*arguments: Any) -> tuple[str, list[str]]:
        container, warnings = create(*arguments)
        names = "{{range .Mounts}}{{println .Name}}{{end}}"
        volumes.extend(podman("inspect", f"--format={names}", container).split())
        return container, warnings

    monkeypatch.setattr(Engine, "create", create_and_look)
    attempt = run_until_cancelled(bench, script, image=bench.images.fussy)
    assert attempt.state is state, attempt.system_logs
    assert volumes
    assert not set(volumes) & set(podman("volume", "ls", "--quiet").split())


def test_the_first_failure_ends_the_task(bench: Bench) -> None:
    attempt = bench.run({"executors": [bench.executor("exit 3"), bench.executor("echo never")]})
    assert attempt.exit_codes == [3]


def test_all_that_follow_an_ignored_error_run(bench: Bench) -> None:
    attempt = bench.run(
        {
            "executors": [
                bench.executor("exit 3", ignore_error=True),
                bench.executor("exit 4", ignore_error=True),
                bench.executor("echo third"),
            ]
        }
    )
    assert attempt.state is TesState.COMPLETE
    assert attempt.exit_codes == [3, 4, 0]
    assert attempt.stdout(2) == "third\n"


def test_an_exit_code_above_128_names_its_signal(bench: Bench) -> None:
    attempt = bench.sh("sh -c 'kill -TERM $$'; exit $?")
    assert attempt.exit_codes == [143]
    assert "SIGTERM" in attempt.system_logs


@pytest.mark.parametrize(
    ("resources", "settings"),
    [
        ({"cpu_cores": 2, "ram_gb": 0.128}, {"default_cpu_cores": 1, "default_ram_gb": 0.2}),
        (None, {"default_cpu_cores": 2, "default_ram_gb": 0.128}),
    ],
    ids=["asked for", "by default"],
)
def test_the_container_has_the_limits_that_the_task_asks_for_or_those_that_are_set(
    bench: Bench, resources: dict[str, Any] | None, settings: dict[str, Any]
) -> None:
    bench.needs("memory", "cpu")
    script = (
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us"
        " 2>/dev/null || cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max"
    )
    task = {"executors": [bench.executor(script)], "resources": resources}
    attempt = bench.run(task, **settings)
    memory, quota = attempt.stdout().split()[:2]
    assert int(memory) == 128_000_000 // 4096 * 4096
    assert int(quota) == 200_000


def test_a_memory_kill_is_an_executor_error_that_says_how_much_was_allowed(bench: Bench) -> None:
    bench.needs("memory")
    attempt = bench.sh("dd if=/dev/zero of=/dev/null bs=200M", resources={"ram_gb": 0.05})
    assert attempt.state is TesState.EXECUTOR_ERROR
    assert attempt.exit_codes == [137]
    assert attempt.failure_reason == "out_of_memory"
    assert "0.05 GB" in attempt.system_logs


@pytest.mark.parametrize(("exit_code", "reason"), [(0, None), (3, "executor_error")])
def test_a_memory_kill_that_the_program_survives_is_said_too(
    bench: Bench, exit_code: int, reason: str | None
) -> None:
    bench.needs("memory")
    script = f"dd if=/dev/zero of=/dev/null bs=200M; exit {exit_code}"
    attempt = bench.sh(script, resources={"ram_gb": 0.05})
    assert attempt.exit_codes == [exit_code]
    assert attempt.failure_reason == reason
    assert "a process of it was killed" in attempt.system_logs


@pytest.mark.timeout(60)
def test_a_cancelled_task_is_gone_when_it_is_canceled(bench: Bench) -> None:
    attempt = run_until_cancelled(bench, "touch /o/f; trap '' TERM; echo up; sleep 600")
    assert attempt.state is TesState.CANCELED
    assert attempt.exit_codes == [137]
    assert bench.containers() == []
    assert not (bench.files / "f").exists()


@pytest.mark.parametrize("fault", [PodmanUnavailable("busy"), ContainerRefused("can't kill it")])
def test_a_kill_that_podman_does_not_do_at_once_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    kill, faults = Engine.kill, [fault, fault]

    def kill_at_last(*arguments: Any) -> None:
        if faults:
            raise faults.pop()
        kill(*arguments)

    monkeypatch.setattr(Engine, "kill", kill_at_last)
    attempt = run_until_cancelled(bench, "echo up; sleep 30")
    assert attempt.state is TesState.CANCELED
    assert attempt.exit_codes == [137]


def run_until_cancelled(
    bench: Bench, script: str, image: str | None = None, **settings: Any
) -> Attempt:
    """Run a task that is cancelled as soon as it has said something."""
    control = Control()

    def said(update: Update) -> None:
        if any(tails.stdout for tails in update.tails.values()):
            threading.Thread(target=control.cancel).start()

    task = {
        "executors": [bench.executor(script, image=image or bench.images.busybox)],
        "outputs": [{"path": "/o/f", "url": str(bench.files / "f")}],
    }
    return bench.run(task, control=control, said=said, **settings)


def test_with_a_grace_time_the_command_may_end_by_itself(bench: Bench) -> None:
    script = "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done"
    before = set(threading.enumerate())
    attempt = run_until_cancelled(bench, script, stop_grace=60.0)
    assert attempt.state is TesState.CANCELED
    assert attempt.exit_codes == [5]
    assert attempt.stdout() == "up\nbye\n"
    for thread in set(threading.enumerate()) - before:
        thread.join(20)  # seconds
        assert not thread.is_alive(), f"{thread} outlives the container"


def test_a_command_that_does_not_end_in_its_grace_time_is_killed(bench: Bench) -> None:
    attempt = run_until_cancelled(bench, "trap '' TERM; echo up; sleep 600", stop_grace=0.5)
    assert attempt.state is TesState.CANCELED
    assert attempt.exit_codes == [137]


def test_a_task_that_is_cancelled_before_it_starts_runs_nothing(bench: Bench) -> None:
    control = Control()
    control.cancel()
    attempt = bench.run({"executors": [bench.executor("true")]}, control=control)
    assert attempt.state is TesState.CANCELED
    assert attempt.executors == []


def test_an_attempt_that_ends_with_the_service_is_given_back_to_the_queue(bench: Bench) -> None:
    control = Control()

    def said(update: Update) -> None:
        if update.state is TesState.RUNNING:
            threading.Thread(target=control.shut_down).start()

    attempt = bench.run({"executors": [bench.executor("sleep 600")]}, control=control, said=said)
    assert attempt.state is TesState.QUEUED
    assert attempt.failure_reason == "service_stopped"
    assert attempt.last.retry


def test_the_service_s_environment_is_not_in_the_container(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTPS_PROXY", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "http://user:secret@proxy.example")
    instance = uuid.uuid4().hex
    podman = PodmanService(bench.node.settings, instance)  # has the environment of its start
    bench.node = replace(bench.node, instance=instance, podman=podman)
    try:
        attempt = bench.sh("env")
    finally:
        podman.release()
    assert attempt.state is TesState.COMPLETE, attempt.system_logs
    names = {line.split("=")[0] for line in attempt.stdout().splitlines()}
    assert names <= {"PATH", "HOME", "HOSTNAME", "container", "TERM", "PWD", "SHLVL"}


def test_privileges_can_not_be_gained(bench: Bench) -> None:
    assert "NoNewPrivs:\t1" in bench.sh("cat /proc/self/status").stdout()


def test_what_is_stored_after_a_failed_executor_is_what_there_is(bench: Bench) -> None:
    attempt = bench.run(
        {
            "executors": [bench.executor("echo half > /o/there; exit 1", stderr="/o/log")],
            "outputs": [
                {"path": "/o/there", "url": str(bench.files / "there")},
                {"path": "/o/missing", "url": str(bench.files / "missing")},
            ],
        }
    )
    assert attempt.state is TesState.EXECUTOR_ERROR
    assert (bench.files / "there").read_text() == "half\n"
    assert "/o/missing" in attempt.system_logs
    assert attempt.failure_reason == "executor_error"


def test_a_missing_output_of_a_success_is_a_system_error(bench: Bench) -> None:
    task = {
        "executors": [bench.executor("true")],
        "outputs": [{"path": "/o/missing", "url": str(bench.files / "missing")}],
    }
    attempt = bench.run(task)
    assert attempt.state is TesState.SYSTEM_ERROR
    assert attempt.failure_reason == "missing_output"
    assert bench.run(task, missing_outputs="warn").state is TesState.COMPLETE


def test_a_missing_input_is_a_system_error_that_names_it(bench: Bench) -> None:
    missing = bench.files / "missing"
    attempt = bench.sh("true", inputs=[{"url": str(missing), "path": "/in/f"}])
    assert attempt.state is TesState.SYSTEM_ERROR
    assert attempt.failure_reason == "input_failed"
    assert str(missing) in attempt.system_logs


def test_a_stdin_that_is_no_file_of_the_task_is_a_system_error(bench: Bench) -> None:
    attempt = bench.run({"executors": [bench.executor("cat", stdin="/nowhere/f")]})
    assert attempt.failure_reason == "input_failed"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount what can't be read")
def test_a_stdin_that_can_not_be_read_ends_its_program(bench: Bench) -> None:
    unreadable = bench.files / "f"
    unreadable.touch()
    subprocess.run(["mount", "--bind", f"/proc/{os.getpid()}/mem", unreadable], check=True)
    try:
        attempt = bench.run(
            {
                "inputs": [{"url": str(unreadable), "path": "/in/f"}],
                "executors": [bench.executor("cat; sleep 600", stdin="/in/f")],
            }
        )
    finally:
        subprocess.run(["umount", unreadable], check=True)
    assert attempt.state is TesState.SYSTEM_ERROR
    assert attempt.failure_reason == "system_error"
    assert "the stdin /in/f can't be read on the node" in attempt.system_logs


def test_a_program_whose_stdin_can_not_be_read_is_not_killed_in_vain(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def kill(*arguments: Any) -> None:
        asked.set()
        raise PodmanUnavailable("it is gone")

    def read_outputs(*arguments: Any) -> None:
        assert asked.wait(60)
        raise PodmanUnavailable("it is gone")

    def read(pump: StdinPump) -> bytes:
        pump.error = OSError("it can't be read")
        return b""

    monkeypatch.setattr(Engine, "kill", kill)
    monkeypatch.setattr(Execution, "_read", read_outputs)
    monkeypatch.setattr(StdinPump, "_read", read)
    attempt = bench.run(
        {
            "inputs": [{"content": "text", "path": "/in/f"}],
            "executors": [bench.executor("sleep 600", stdin="/in/f")],
        }
    )
    assert attempt.failure_reason == "podman_unavailable"
    assert "can't be sent" not in attempt.system_logs


@pytest.mark.parametrize("kind", ["directory", "FIFO", "long name"])
def test_a_stdin_that_can_not_be_opened_is_the_task_s_fault(bench: Bench, kind: str) -> None:
    path = {"directory": "/vol", "FIFO": "/vol/f", "long name": f"/vol/{'n' * 256}"}[kind]
    attempt = bench.run(
        {
            "volumes": ["/vol"],
            "executors": [bench.executor("mkfifo /vol/f"), bench.executor("cat", stdin=path)],
        }
    )
    assert attempt.failure_reason == "input_failed"
    assert f"the stdin {path} " in attempt.system_logs
    assert not attempt.last.of_node


def test_a_stdout_is_not_written_into_a_fifo(bench: Bench) -> None:
    attempt = bench.run(
        {
            "volumes": ["/vol"],
            "executors": [
                bench.executor("mkfifo /vol/f"),
                bench.executor("echo x", stdout="/vol/f"),
            ],
        }
    )
    assert attempt.failure_reason == "invalid_mounts"
    assert "an executor's stdout or stderr can't be written" in attempt.system_logs


def test_the_metadata_say_where_and_how_long(bench: Bench) -> None:
    (bench.files / "in").write_bytes(bytes(1000))
    attempt = bench.run(
        {
            "inputs": [
                {"url": str(bench.files / "in"), "path": "/in/a"},
                {"content": "text", "path": "/in/b"},
            ],
            "executors": [bench.executor("true"), bench.executor("printf 12345 > /o/f")],
            "outputs": [{"path": "/o/f", "url": str(bench.files / "f")}],
        }
    )
    metadata = attempt.log.metadata or {}
    assert metadata["node"] == "test-node"
    assert metadata["attempt"] == "1"
    assert "@sha256:" in metadata["images"]
    for step in ("pull", "stage_in", "run", "stage_out"):
        assert float(metadata[f"{step}_seconds"]) >= 0
    assert float(metadata["queue_seconds"]) == 0
    assert (metadata["bytes_in"], metadata["bytes_out"]) == ("1004", "5")
    containers = {metadata[f"executor_{number}_container"] for number in range(2)}
    assert all(len(container) == 64 for container in containers)
    assert len(containers) == 2
    if "memory" in bench.node.podman.enforcement().controllers:
        assert 0 < int(metadata["executor_1_peak_memory_bytes"]) < 250_000_000
        assert 0 < float(metadata["executor_1_cpu_seconds"]) < 10
    else:  # the container has no cgroup of its own
        assert "executor_1_peak_memory_bytes" not in metadata


def test_the_metadata_say_what_was_used_though_the_cgroup_goes_with_the_program(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.needs("memory", "cpu")
    await_end = Execution._await_end

    def await_end_and_lose(*arguments: Any) -> ContainerState:
        state = await_end(*arguments)
        monkeypatch.setattr(Cgroup, "_read", lambda cgroup: Usage())
        return state

    monkeypatch.setattr(Execution, "_await_end", await_end_and_lose)
    metadata = bench.sh("dd if=/dev/zero of=/dev/null bs=50M count=10").log.metadata or {}
    assert 50 * 2**20 < int(metadata["executor_0_peak_memory_bytes"]) < 250_000_000
    assert 0.01 < float(metadata["executor_0_cpu_seconds"]) < 10


def test_the_system_log_tells_each_step_with_its_time(bench: Bench) -> None:
    attempt = bench.run(
        {
            "inputs": [{"content": "text", "path": "/in/b"}],
            "executors": [
                bench.executor("exit 3", ignore_error=True),
                bench.executor("printf 12345 > /o/f"),
            ],
            "outputs": [{"path": "/o/f", "url": str(bench.files / "f")}],
        }
    )
    lines = [line for line in attempt.system_logs.splitlines() if " warning: " not in line]
    expected = [
        "attempt 1 begins on node test-node",
        "1 input staged in, 4 bytes",
        r"executor 0 ended with exit code 3 after \d+\.\d seconds, which is ignored .*",
        r"executor 1 ended with exit code 0 after \d+\.\d seconds",
        "the output /o/f is stored: 1 file, 5 bytes",
        "the task is complete",
    ]
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z " + pattern, line)


def test_what_takes_long_is_in_the_system_log_before_it_has_ended(bench: Bench) -> None:
    said = threading.Event()
    go = bench.files / "go"
    go.mkdir()

    def saying(update: Update) -> None:
        if any("executor 0 ended" in line for line in update.system_logs):
            said.set()
            (go / "on").touch()

    bench.run(
        {
            "inputs": [{"url": str(go), "path": "/go", "type": "DIRECTORY"}],
            "executors": [
                bench.executor("true"),
                bench.executor("until [ -e /go/on ]; do sleep 0.02; done"),
            ],
        },
        said=saying,
    )
    assert said.is_set()


@pytest.mark.parametrize(("keep", "code"), [(True, 1), (True, 0), (False, 1)])
def test_what_a_failed_attempt_wrote_is_kept_only_if_asked_for(
    bench: Bench, keep: bool, code: int
) -> None:
    script = f"echo found > /work/it; exit {code}"
    task = {"executors": [bench.executor(script)], "volumes": ["/work"]}
    attempt = bench.run(task, keep_scratch=keep)
    parent = bench.node.settings.scratch / "kept"
    kept = list(parent.glob("*/mounts/*/it"))
    assert [path.read_text() for path in kept] == (["found\n"] if keep and code else [])
    assert all(f"is kept on node test-node: {parent}" in attempt.system_logs for _ in kept)
    shutil.rmtree(parent, ignore_errors=True)


def test_a_workdir_that_leads_through_a_link_is_made_in_the_container(bench: Bench) -> None:
    there = f"/tmp/{uuid.uuid4().hex}"
    attempt = bench.run(
        {
            "volumes": ["/vol"],
            "executors": [
                bench.executor("ln -s /tmp /vol/link"),
                bench.executor("pwd -P", workdir=f"/vol/link{there.removeprefix('/tmp')}"),
            ],
        }
    )
    assert attempt.stdout(1) == f"{there}\n"
    assert not os.path.lexists(there)
