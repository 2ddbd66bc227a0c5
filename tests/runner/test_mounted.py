"""A local root that tasks may write to: what they put there leads no other to the node."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raytes.config import LocalRoot
from raytes.models import TesState
from raytes.runner import task
from raytes.runner.podman import ContainerState, Engine
from raytes.runner.stage_out import StageOut
from tests.runner.conftest import Attempt, Bench

# What an executor does that has the directory `job` mounted at /job.
_SWAP = "mv /job/a /job/b && ln -s {outside} /job/a"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory of the node that no task may see, which looks like what a task has."""
    (tmp_path / "outside/d").mkdir(parents=True)
    (tmp_path / "outside/d/f").write_text("secret")
    return tmp_path / "outside"


@pytest.fixture
def run(bench: Bench) -> Callable[..., Attempt]:
    """Runs a task that has the directory `job` at /job, and what is below it at `path`."""
    (bench.files / "job/a/d").mkdir(parents=True)
    (bench.files / "job/a/d/f").write_text("its own")

    def run(below: str, *executors: dict[str, Any], path: str = "/x", **task: Any) -> Attempt:
        job = {"url": str(bench.files / "job"), "path": "/job", "type": "DIRECTORY"}
        inputs = [job, {"url": f"{bench.files}/job/{below}", "path": path}]
        document = {"inputs": inputs, "executors": list(executors), **task}
        return bench.run(document, local_root=(LocalRoot(path=bench.files, rw=True),))

    return run


@pytest.mark.parametrize("below", ["a", "a/d", "a/d/f"])
def test_a_link_for_an_input_shows_no_later_executor_the_node(
    bench: Bench, run: Callable[..., Attempt], outside: Path, below: str
) -> None:
    swap = bench.executor(_SWAP.format(outside=outside))
    look = bench.executor("find /x -type f -exec cat {} +")
    attempt = run(below, look, swap, look)
    assert "its own" in attempt.stdout(0)
    assert attempt.exit_codes == [0, 0], attempt.stdout(2)
    assert attempt.failure_reason == "input_failed"
    assert f"the input /x can't be mounted: {bench.files}/job/{below}" in attempt.system_logs
    assert "leads through a link (a)" in attempt.system_logs
    assert not attempt.last.retry


@pytest.mark.parametrize(("below", "path"), [("a/d", "/x"), ("a/d", "/x/f"), ("a/d", "/x/*")])
def test_a_link_for_an_input_lets_nothing_of_the_node_be_stored(
    bench: Bench, run: Callable[..., Attempt], outside: Path, below: str, path: str
) -> None:
    attempt = run(
        below,
        bench.executor(_SWAP.format(outside=outside)),
        outputs=[{"path": path, "path_prefix": "/x", "url": str(bench.files / "out")}],
    )
    assert attempt.exit_codes == [0]
    assert attempt.failure_reason == "output_failed", attempt.system_logs
    assert "leads through a link (a)" in attempt.system_logs
    assert not (bench.files / "out").exists()


@pytest.mark.parametrize(
    ("of", "step", "reason"),
    [(task, "stage_in", "input_failed"), (StageOut, "stage", "output_failed")],
)
def test_what_another_task_removes_is_not_the_node_s_fault(
    bench: Bench, run: Callable[..., Attempt], monkeypatch: pytest.MonkeyPatch,
    of: object, step: str, reason: str,
) -> None:  # fmt: skip
    original = getattr(of, step)

    def remove_first(*arguments: Any) -> Any:
        (bench.files / "job/a/d/f").unlink()
        return original(*arguments)

    monkeypatch.setattr(of, step, remove_first)
    attempt = run(
        "a/d/f",
        bench.executor("true"),
        path="/in/x",
        outputs=[{"path": "/in/*", "path_prefix": "/in", "url": str(bench.files / "out")}],
    )
    assert (attempt.state, attempt.failure_reason) == (TesState.SYSTEM_ERROR, reason)
    assert (attempt.last.retry, attempt.last.of_node) == (False, False)


@pytest.mark.parametrize(
    ("pid", "reason", "retry"),
    [(2**22 + 1, "input_failed", False), (0, "container_lost", True)],
    ids=["another node's", "gone"],
)
def test_what_podman_has_mounted_has_to_be_seen(
    run: Callable[..., Attempt], bench: Bench, monkeypatch: pytest.MonkeyPatch,
    pid: int, reason: str, *, retry: bool,
) -> None:  # fmt: skip
    """A number that no process of this node can have is that of one of another's."""
    inspect = Engine.inspect

    def inspect_from_elsewhere(self: Engine, container: str) -> ContainerState:
        return replace(inspect(self, container), pid=pid)

    monkeypatch.setattr(Engine, "inspect", inspect_from_elsewhere)
    attempt = run("a", bench.executor("true"))
    assert attempt.executors == []
    assert (attempt.failure_reason, attempt.last.retry) == (reason, retry)
    unseen = "nobody here may look at what the container has mounted"
    assert (unseen in attempt.system_logs) is not retry


def test_a_link_for_an_input_leads_no_stream_to_the_node(
    bench: Bench, run: Callable[..., Attempt], outside: Path
) -> None:
    swap = bench.executor(_SWAP.format(outside=outside))
    written = run("a/d", swap, bench.executor("echo evil", stdout="/x/new/log"))
    assert written.state is TesState.SYSTEM_ERROR
    assert os.listdir(outside / "d") == ["f"]
    (bench.files / "job/a").unlink()
    (bench.files / "job/b").rename(bench.files / "job/a")
    read = run("a/d", swap, bench.executor("cat", stdin="/x/f"))
    assert read.failure_reason == "input_failed"
    assert len(read.executors) == 1


@pytest.mark.parametrize("swapped_back", [False, True])
@pytest.mark.parametrize("below", ["a/d", "a/d/f"])
def test_what_is_swapped_while_podman_mounts_it_is_noticed(
    bench: Bench, run: Callable[..., Attempt], outside: Path, monkeypatch: pytest.MonkeyPatch,
    below: str, *, swapped_back: bool,
) -> None:  # fmt: skip
    """It can be the same at any moment when one looks, and another when Podman does."""
    initialize = Engine.initialize
    place, aside = bench.files / "job/a", bench.files / "job/b"

    def swap_and_initialize(self: Engine, container: str) -> None:
        place.rename(aside)
        place.symlink_to(outside)
        initialize(self, container)
        if swapped_back:
            place.unlink()
            aside.rename(place)

    monkeypatch.setattr(Engine, "initialize", swap_and_initialize)
    attempt = run(below, bench.executor("true"))
    assert attempt.executors == []
    assert (attempt.failure_reason, attempt.last.retry) == ("input_failed", True)
    assert not attempt.last.of_node
    assert "the input /x can't be mounted" in attempt.system_logs
