"""What dead runners left, and what living ones still use."""

import os
import subprocess
import uuid
from pathlib import Path

import pytest

from raytes.errors import ContainerRefused
from raytes.models import TesState
from raytes.runner import conmon, executor
from raytes.runner.owner import lock_of, owned_directory
from raytes.runner.podman import Engine
from raytes.runner.sweep import instance_directory, sweep
from raytes.runner.task import Node
from tests.images import Images
from tests.runner.conftest import Bench


@pytest.fixture
def own(node: Node) -> Node:
    """The node for a service instance of its own."""
    return Node(
        node.name, node.settings, uuid.uuid4().hex, node.podman, node.storage, node.image_files
    )


def start_container(node: Node, image: str, owner: str) -> str:
    engine = node.podman.engine()
    container, _ = engine.create(
        {
            "image": image,
            "command": ["sleep", "600"],
            "entrypoint": [],
            "netns": {"nsmode": "none"},
            "labels": {
                "raytes.instance": node.instance,
                "raytes.owner": owner,
                "raytes.task": "the-task",
            },
        }
    )
    engine.start(container)
    return container


def test_what_has_an_owner_stays_and_what_has_none_goes(own: Node, podman_images: Images) -> None:
    directory = instance_directory(own.settings, own.instance)
    engine = own.podman.engine()
    with owned_directory(directory, "living") as living:
        with owned_directory(directory, "dead") as dead:
            (dead / "mounts").mkdir()
            start_container(own, podman_images.busybox, str(lock_of(dead)))
        kept = start_container(own, podman_images.busybox, str(lock_of(living)))
        removed = sweep(own.settings, own.instance)
        assert any("the-task" in line for line in removed)
        assert not dead.exists()
        assert living.exists()
        left = engine.containers([f"raytes.instance={own.instance}"])
        assert [one["Id"] for one in left] == [kept]
    sweep(own.settings, own.instance)
    assert engine.containers([f"raytes.instance={own.instance}"]) == []
    assert not living.exists()


def test_another_service_s_containers_are_let_alone(
    own: Node, node: Node, podman_images: Images
) -> None:
    container = start_container(own, podman_images.busybox, "/no/such/lock")
    assert sweep(node.settings, node.instance) == []
    own.podman.engine().remove(container)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount what can't be removed")
def test_what_can_not_be_removed_does_not_undo_what_was_stored_and_goes_later(
    bench: Bench,
) -> None:
    mounted: list[Path] = []

    def authorize(*_: object) -> bool:
        if not mounted:
            (name,) = bench.scratch()
            mounted.append(instance_directory(bench.node.settings, bench.node.instance) / name)
            (mounted[0] / "stuck").mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mounted[0] / "stuck"], check=True)
        return True

    def sweep_node() -> list[str]:
        return sweep(bench.node.settings, bench.node.instance)

    try:
        attempt = bench.run(
            {
                "executors": [bench.executor("echo x > /out/f")],
                "outputs": [{"path": "/out/f", "url": str(bench.files / "f")}],
            },
            authorize=authorize,
        )
        assert attempt.state is TesState.COMPLETE
        assert (bench.files / "f").read_text() == "x\n"
        assert f"{mounted[0]} on node test-node can't be removed now" in attempt.system_logs
        assert sweep_node() == []
    finally:
        (left,) = bench.scratch()
        parent = instance_directory(bench.node.settings, bench.node.instance)
        subprocess.run(["umount", parent / left / "stuck"], check=True)
    assert sweep_node() == ["a scratch directory"]


@pytest.mark.parametrize("fault", [ContainerRefused("a device is busy"), OSError("no memory")])
def test_a_container_that_can_not_be_removed_costs_nothing_and_goes_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """Nor does it, or one that Podman can't look at, keep a sweep from all else."""

    def fail(self: Engine, container: str) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "remove", fail)
        patch.setattr(executor, "_REMOVAL_ATTEMPTS", 1)
        attempt = bench.sh(
            "echo x > /out/f", outputs=[{"path": "/out/f", "url": str(bench.files / "f")}]
        )
        (left,) = bench.containers()
        assert attempt.state is TesState.COMPLETE, attempt.system_logs
        assert (bench.files / "f").read_text() == "x\n"
        assert f"{left['Id'][:12]} on node test-node can't be removed now" in attempt.system_logs
        with owned_directory(
            instance_directory(bench.node.settings, bench.node.instance), "dead"
        ) as dead:
            pass
        patch.setattr(conmon, "_conmons", lambda: [(0, left["Id"], "raytes-x", Path("/"))])
        patch.setattr(Engine, "inspect", refuse)
        patch.setattr(Engine, "remove", refuse)
        assert sweep(bench.node.settings, bench.node.instance) == ["a scratch directory"]
        assert not dead.exists()
    sweep(bench.node.settings, bench.node.instance)


def refuse(self: Engine, container: str) -> None:
    raise ContainerRefused("a device is busy")


@pytest.mark.parametrize(("name", "depth"), [("d", 1500), ("d" * 200, 40)])
@pytest.mark.parametrize("stored", [False, True])
def test_directories_however_deep_are_the_task_s_own_affair(
    bench: Bench, name: str, depth: int, stored: bool
) -> None:
    script = f"i=0; while [ $i -lt {depth} ]; do mkdir {name}; cd -P {name}; i=$((i+1)); done"
    outputs = [{"path": "/vol", "url": str(bench.files / "vol")}] if stored else []
    attempt = bench.run(
        {
            "volumes": ["/vol"],
            "executors": [bench.executor(f"cd /vol; {script}; echo x > f")],
            "outputs": outputs,
        }
    )
    assert attempt.exit_codes == [0], attempt.stderr()
    assert (attempt.failure_reason is not None) is stored
    assert (attempt.last.retry, attempt.last.of_node) == (False, False)
    if stored:
        assert attempt.failure_reason == "output_failed", attempt.system_logs
        assert "the output /vol can't be stored: its " in attempt.system_logs
    assert bench.scratch() == []


def test_a_sweep_goes_on_after_a_tree_of_any_depth(own: Node) -> None:
    with owned_directory(instance_directory(own.settings, own.instance), "t") as directory:
        make_deep(directory, "d" * 100, 1500)
    assert sweep(own.settings, own.instance) == ["a scratch directory"]
    assert not directory.exists()


def make_deep(directory: Path, name: str, depth: int) -> None:
    at = os.open(directory, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
