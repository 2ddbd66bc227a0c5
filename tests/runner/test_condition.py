"""A node looks at itself."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import raytes
from raytes.runner.condition import Condition, examine, out_of_reach
from raytes.runner.podman import Engine
from raytes.runner.task import Node
from tests.runner.test_service import kill_service
from tests.small_disk import full, mounted


@pytest.fixture
def look(node: Node) -> Callable[..., Condition]:
    def look(version: str = raytes.__version__, **settings: object) -> Condition:
        changed = node.settings.model_copy(update=settings)
        return examine(changed, node.instance, version)

    return look


def test_a_node_tells_its_versions_its_room_and_what_it_can_not_enforce(
    node: Node, look: Callable[..., Condition]
) -> None:
    found = look()
    info = node.podman.engine().info()
    assert found.raytes == raytes.__version__
    assert found.podman == info["version"]["Version"]
    assert found.scratch_free
    assert found.fault == ""
    assert set(node.podman.enforcement().shortcomings) <= set(found.shortcomings)


def test_a_node_whose_podman_does_not_answer_says_so(
    tmp_path: Path, look: Callable[..., Condition]
) -> None:
    found = look(podman_socket=tmp_path / "podman.sock")
    assert found.podman is None
    [sentence] = found.shortcomings
    assert str(tmp_path / "podman.sock") in sentence
    assert found.fault == sentence


def test_a_node_whose_podman_service_is_killed_under_the_look_is_well(
    node: Node, look: Callable[..., Condition], monkeypatch: pytest.MonkeyPatch
) -> None:
    info, killed = Engine.info, iter([True])

    def kill_first(engine: Engine) -> dict[str, Any]:
        if next(killed, False):
            kill_service(node.instance)
        return info(engine)

    node.podman.engine()
    monkeypatch.setattr(Engine, "info", kill_first)
    found = look()
    assert next(killed, None) is None
    assert found.fault == ""
    assert found.podman


def test_a_node_where_files_can_not_be_written_says_so(
    tmp_path: Path, look: Callable[..., Condition]
) -> None:
    (tmp_path / "file").touch()
    found = look(scratch_dir=tmp_path / "file" / "scratch")
    assert str(tmp_path / "file" / "scratch") in found.fault
    assert found.shortcomings[0] == found.fault


def test_scratch_need_not_be_there_yet(tmp_path: Path, look: Callable[..., Condition]) -> None:
    assert look(scratch_dir=tmp_path / "not" / "yet").scratch_free


def test_a_disk_that_is_nearly_full_is_said(
    look: Callable[..., Condition], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    total, free = 1000 * 10**9, 9 * 10**9
    nearly_full = shutil.disk_usage("/")._replace(total=total, used=total - free, free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: nearly_full)
    found = look(scratch_dir=tmp_path)
    assert found.scratch_free == free
    assert any("9.0 GB of 1000 GB are left" in sentence for sentence in found.shortcomings)


@pytest.fixture
def store_images(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Have the node's Podman say that it stores images in a directory."""
    info = Engine.info

    def store_images(directory: Path) -> None:
        def moved(engine: Engine) -> dict[str, Any]:
            found = info(engine)
            found["store"]["graphRoot"] = str(directory)
            return found

        monkeypatch.setattr(Engine, "info", moved)

    return store_images


def test_a_node_where_podman_has_no_room_says_so_until_it_has(
    look: Callable[..., Condition], store_images: Callable[[Path], None], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "4m") as mountable:
        if not mountable:
            pytest.skip("only root can mount a filesystem, and not everywhere")
        store_images(disk)
        with full(disk):
            found = look()
        assert f"at {disk} on this node (No space left on device)" in found.fault
        assert found.shortcomings[0] == found.fault
        assert found.podman
        assert look().fault == ""


def test_a_node_where_only_podman_may_write_its_images_is_well(
    look: Callable[..., Condition], store_images: Callable[[Path], None]
) -> None:
    store_images(Path("/proc/1"))  # nobody may
    assert look().fault == ""


def test_a_node_whose_podman_has_its_images_where_this_user_may_not_look_is_well(
    look: Callable[..., Condition],
    store_images: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    closed = tmp_path / "closed"  # to all but root, who may be running this
    closed.mkdir()
    stat = os.stat

    def stat_as_another(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(f"{closed}/"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", stat_as_another)
    store_images(closed / "storage")
    assert look().fault == ""


def test_on_a_node_with_another_release_no_task_is_run(look: Callable[..., Condition]) -> None:
    found = look(version="9.9")
    assert f"raytes {raytes.__version__} and the service is 9.9" in found.fault
    assert found.shortcomings[0] == found.fault


def test_a_node_on_which_nothing_can_be_run_is_told_what_to_install() -> None:
    found = out_of_reach("No module named 'raytes'")
    assert (found.raytes, found.podman, found.scratch_free) == (None, None, None)
    assert f"install raytes {raytes.__version__}" in found.shortcomings[0]
    assert found.fault == found.shortcomings[0]
