"""What a task may use, and what becomes of one that uses more."""

import os

import pytest

from raytes.models import TesState
from raytes.runner import allowance
from raytes.runner.control import Control
from raytes.runner.image_files import InImageOutputs
from raytes.runner.task import ExecutorFailed
from tests.runner.conftest import Bench


def asking(**parameters: str) -> dict[str, dict[str, str]]:
    return {"backend_parameters": parameters}


def test_a_command_that_runs_too_long_is_an_executor_error_and_not_retried(bench: Bench) -> None:
    attempt = bench.run(
        {
            "executors": [
                bench.executor("echo half > /o/f; sleep 600"),
                bench.executor("echo never"),
            ],
            "outputs": [{"path": "/o/f", "url": str(bench.files / "f")}],
            "resources": asking(max_runtime="0.7"),
        }
    )
    assert attempt.state is TesState.EXECUTOR_ERROR
    assert attempt.failure_reason == "timeout"
    assert attempt.exit_codes == [137]
    assert not attempt.last.retry
    assert "0.7 seconds" in attempt.system_logs
    assert (bench.files / "f").read_text() == "half\n"


def test_a_limit_that_is_reached_between_two_executors_loses_no_output(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    control, take = Control(), InImageOutputs.take

    def take_and_fail(self: InImageOutputs, container: str, **how: bool) -> None:
        take(self, container, **how)
        control.fail(ExecutorFailed("enough", "timeout"))

    monkeypatch.setattr(InImageOutputs, "take", take_and_fail)
    attempt = bench.run(
        {
            "executors": [bench.executor("echo x | tee /o/f"), bench.executor("echo never")],
            "outputs": [{"path": "/o/f", "url": str(bench.files / "f")}],
            "resources": asking(max_runtime="600"),
        },
        control=control,
    )
    assert attempt.failure_reason == "timeout"
    assert attempt.exit_codes == [0]
    assert (bench.files / "f").read_text() == "x\n"


def test_the_setting_bounds_the_time_of_all_executors_together(bench: Bench) -> None:
    attempt = bench.run(
        {"executors": [bench.executor("true"), bench.executor("sleep 600", ignore_error=True)]},
        max_runtime=1.5,
    )
    assert attempt.failure_reason == "timeout"


def test_a_task_that_asks_for_next_to_no_memory_has_what_a_container_needs(bench: Bench) -> None:
    assert bench.sh("true", resources={"ram_gb": 0.003}).state is TesState.COMPLETE


def test_a_task_within_its_time_is_complete(bench: Bench) -> None:
    assert bench.sh("true", resources=asking(max_runtime="60")).state is TesState.COMPLETE


@pytest.mark.parametrize(
    ("where", "asked"),
    [("/o", True), ("/tmp", True), ("/o", False)],
    ids=["in an output", "in the image's own files", "by default"],
)
def test_a_task_that_writes_more_than_its_disk_is_ended(
    bench: Bench, where: str, asked: bool
) -> None:
    if where == "/tmp" and bench.node.podman.engine().info()["store"]["graphDriverName"] == "vfs":
        pytest.skip("this node can't see what containers write into their own filesystems")
    script = f"dd if=/dev/zero of={where}/f bs=1M count=30; sleep 600"
    attempt = bench.run(
        {
            "executors": [bench.executor(script)],
            "outputs": [{"path": "/o/f", "url": str(bench.files / "f")}],
            "resources": {"disk_gb": 0.02} if asked else None,
        },
        default_disk_gb=1.0 if asked else 0.02,
    )
    assert attempt.state is TesState.EXECUTOR_ERROR
    assert attempt.failure_reason == "disk_full"
    assert not attempt.last.retry
    assert "0.02 GB" in attempt.system_logs


@pytest.mark.parametrize("where", ["/o", "/tmp"], ids=["in an output", "in the image's own files"])
def test_what_is_written_just_before_the_end_counts_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "/tmp" and bench.node.podman.engine().info()["store"]["graphDriverName"] == "vfs":
        pytest.skip("this node can't see what containers write into their own filesystems")
    monkeypatch.setattr(allowance, "_LOOK_EVERY", 600.0)  # seconds; after the first, at once
    script = f"dd if=/dev/zero of={where}/f bs=1M count=30"
    attempt = bench.run(
        {
            "executors": [{"image": bench.images.fussy, "command": ["sh", "-c", script]}],
            "outputs": [{"path": "/o/f", "url": str(bench.files / "f")}],
            "resources": {"disk_gb": 0.02},
        }
    )
    assert attempt.exit_codes == [0]
    assert attempt.failure_reason == "disk_full"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
@pytest.mark.parametrize(("image", "mode"), [("fussy", "700"), ("busybox", "0")])
def test_what_a_container_s_user_has_closed_to_others_counts_too(
    bench: Bench, image: str, mode: str
) -> None:
    script = f"mkdir -m {mode} /o/d; dd if=/dev/zero of=/o/d/f bs=1M count=30"
    attempt = bench.run(
        {
            "executors": [{"image": getattr(bench.images, image), "command": ["sh", "-c", script]}],
            "outputs": [{"path": "/o", "url": str(bench.files / "o"), "type": "DIRECTORY"}],
            "resources": {"disk_gb": 0.02},
        }
    )
    assert attempt.exit_codes == [0]
    assert attempt.failure_reason == "disk_full"


def test_inputs_that_are_larger_than_the_disk_end_the_task_before_it_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowance, "_LOOK_EVERY", 600.0)  # seconds
    (bench.files / "large").write_bytes(bytes(30_000_000))
    attempt = bench.sh(
        "true",
        volumes=["/v"],
        inputs=[{"url": str(bench.files / "large"), "path": "/v/large"}],
        resources={"disk_gb": 0.02},
    )
    assert attempt.failure_reason == "disk_full"
    assert attempt.executors == []


def test_a_task_within_its_disk_is_complete(bench: Bench) -> None:
    attempt = bench.sh("dd if=/dev/zero of=/tmp/f bs=1M count=3", resources={"disk_gb": 0.02})
    assert attempt.state is TesState.COMPLETE


def test_a_node_without_the_room_that_is_asked_for_leaves_the_task_to_another(
    bench: Bench,
) -> None:
    attempt = bench.sh("true", resources={"disk_gb": 1e9})
    assert attempt.state is TesState.SYSTEM_ERROR
    assert attempt.failure_reason == "disk_full"
    assert attempt.last.retry
    assert not attempt.last.of_node  # which has room for others
    assert attempt.executors == []


def test_processes_are_limited(bench: Bench) -> None:
    bench.needs("pids")
    script = "for i in $(seq 30); do sleep 5 & done; kill $(jobs -p)"
    assert (
        "can't fork" in bench.run({"executors": [bench.executor(script)]}, pids_limit=10).stderr()
    )
    assert bench.run({"executors": [bench.executor(script)]}).stderr() == ""


def test_shared_memory_has_the_size_that_is_set(bench: Bench) -> None:
    script = "df -k /dev/shm | tail -n 1 | awk '{print $2}'"
    attempt = bench.run({"executors": [bench.executor(script)]}, shm_size_gb=0.1024)
    assert attempt.stdout() == "100000\n"  # kilobytes of 1024


def test_the_entrypoint_is_run_if_it_is_asked_for(bench: Bench) -> None:
    executor = {"image": bench.images.fussy, "command": ["/bin/echo", "ran"]}  # it is /bin/false
    assert bench.run({"executors": [executor]}).stdout() == "ran\n"
    asked = {"executors": [executor], "resources": asking(entrypoint="image")}
    assert bench.run(asked).exit_codes == [1]
    assert bench.run({"executors": [executor]}, entrypoint="image").exit_codes == [1]


def test_a_missing_output_may_be_asked_to_be_no_error(bench: Bench) -> None:
    task = {
        "executors": [bench.executor("true")],
        "outputs": [{"path": "/o/missing", "url": str(bench.files / "missing")}],
        "resources": asking(missing_outputs="warn"),
    }
    assert bench.run(task).state is TesState.COMPLETE


def test_what_the_node_can_not_enforce_is_in_the_log_of_each_attempt(bench: Bench) -> None:
    # As root there is nothing as a rule; rootless (test_rootless.py) there is.
    logged = bench.sh("true").system_logs
    for shortcoming in bench.node.podman.enforcement().shortcomings:
        assert f"warning: {shortcoming}" in logged
