"""Inputs brought to the node, without a container that reads them."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from raytes.config import Settings
from raytes.errors import Canceled, InputFailed, InvalidMounts
from raytes.models import TesFileType, TesTask
from raytes.runner.inputs import StagedIn, find_originals, make_directories, stage_in
from raytes.runner.mounts import MountPlan, Original, plan_mounts
from raytes.storage import Audience, Storage, progress
from raytes.storage.progress import Nobody, Pace
from tests.storage.faulty_proxy import FaultyProxy, faulty_proxy

FILE, DIRECTORY = TesFileType.FILE, TesFileType.DIRECTORY


@pytest.fixture
def server() -> Iterator[FaultyProxy]:
    with faulty_proxy() as server:
        yield server


@pytest.fixture
def stage(tmp_path: Path, server: FaultyProxy) -> Callable[..., StagedIn]:
    """Stages inputs in, with the first volume's files at `tmp_path/scratch/mounts/0`.

    `links` are there before them.
    """
    settings = Settings(
        state_dir=tmp_path / "state", schemes=("file", "http"), storage={server.url: {}}
    )
    storage = Storage(settings)

    def stage(
        *inputs: dict[str, Any],
        volumes: tuple[str, ...] = (),
        stop: threading.Event | None = None,
        audience: Audience = Nobody(),  # noqa: B008
        links: dict[str, Path] = {},  # noqa: B006
    ) -> StagedIn:
        task = TesTask.model_validate(
            {
                "inputs": list(inputs),
                "volumes": list(volumes),
                "executors": [{"image": "x", "command": ["x"]}],
            }
        )
        originals = find_originals(task, storage, settings)
        plan = plan_mounts(task, tmp_path / "scratch", originals)
        make_directories(plan)
        for name, target in links.items():  # as an image's files hold them
            (tmp_path / "scratch/mounts/0" / name).symlink_to(target)
        return stage_in(task, plan, originals, storage, stop or threading.Event(), audience)

    return stage


def inputs_from(server: FaultyProxy, *names: str) -> list[dict[str, Any]]:
    return [{"url": f"{server.url}/{name}", "path": f"/in/{name}"} for name in names]


def test_several_inputs_are_fetched_at_once(
    stage: Callable[..., StagedIn], server: FaultyProxy, tmp_path: Path
) -> None:
    server.files = {f"/{name}": name.encode() for name in "abcd"}
    server.meeting = threading.Barrier(4)

    staged = stage(*inputs_from(server, *"abcd"))

    assert staged.types == dict.fromkeys(range(4), FILE)
    assert (staged.fetched, staged.cached) == (4, 0)
    found = [(tmp_path / f"scratch/inputs/{number}").read_text() for number in range(4)]
    assert found == list("abcd")


def test_an_input_that_fails_ends_the_others(
    stage: Callable[..., StagedIn], server: FaultyProxy
) -> None:
    server.files = {f"/{name}": name.encode() for name in "abcdefghij"}
    server.meeting = threading.Barrier(100)  # who is there is sent nothing
    with pytest.raises(InputFailed, match="/gone"):
        stage(*inputs_from(server, "a", "b", "gone", *"cdefghij"))


def test_a_cancel_ends_them_all(stage: Callable[..., StagedIn], server: FaultyProxy) -> None:
    server.files = {f"/{name}": name.encode() for name in "abcd"}
    stop = threading.Event()
    server.meeting = threading.Barrier(4, stop.set)
    server.faults.extend(["pass"] * 4 + ["hang"] * 4)
    with pytest.raises(Canceled):
        stage(*inputs_from(server, *"abcd"), stop=stop)


def test_what_lies_in_an_input_directory_comes_after_it(
    stage: Callable[..., StagedIn], server: FaultyProxy, tmp_path: Path
) -> None:
    server.files = {"/inner": b"inner"}
    directory = tmp_path / "state/files/tree"
    (directory / "sub").mkdir(parents=True)
    (directory / "sub/inner").write_text("outer")
    (directory / "other").write_text("other")

    stage(
        {"url": f"{server.url}/inner", "path": "/v/tree/sub/inner"},
        {"url": str(directory), "path": "/v/tree", "type": "DIRECTORY"},
        {"content": "text", "path": "/v/tree/sub/text"},
        volumes=("/v",),
    )

    tree = tmp_path / "scratch/mounts/0/tree"
    found = {str(path.relative_to(tree)): path.read_text() for path in tree.rglob("*/*")}
    assert found == {"sub/inner": "inner", "sub/text": "text"}
    assert (tree / "other").read_text() == "other"
    assert (directory / "sub/inner").read_text() == "outer"


def test_the_progress_of_several_inputs_is_told_in_one_line(
    stage: Callable[..., StagedIn], server: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINES", Pace(0, 0, 0))
    server.files = {"/a": b"a" * 10**6, "/b": b"b" * 10**6}
    stage(*inputs_from(server, "a"))  # so that the node has it
    lines: list[str] = []
    stage(*inputs_from(server, *"ab"), audience=Mock(Nobody, line=lines.append))
    assert lines[-1].startswith("the inputs: done, 2 files, 1.0 MB in ")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory on the node that no task may change."""
    directory = tmp_path / "outside"
    directory.mkdir(mode=0o750)
    (directory / "f").write_text("untouched")
    return directory


def is_untouched(directory: Path) -> bool:
    return (
        [one.name for one in directory.iterdir()] == ["f"]
        and (directory / "f").read_text() == "untouched"
        and directory.stat().st_mode & 0o777 == 0o750
    )


@pytest.mark.parametrize("path", ["/v/link/f", "/v/link/new", "/v/link/a/b/new"])
@pytest.mark.parametrize("source", ["content", "file", "http", "directory"])
def test_nothing_is_placed_through_a_link(
    stage: Callable[..., StagedIn],
    server: FaultyProxy,
    tmp_path: Path,
    outside: Path,
    path: str,
    source: str,
) -> None:
    local = tmp_path / "state/files/d"
    local.mkdir(parents=True)
    (local / "f").write_text("changed")
    server.files = {"/x": b"changed"}
    one = {
        "content": {"content": "changed"},
        "file": {"url": str(local / "f")},
        "http": {"url": f"{server.url}/x"},
        "directory": {"url": str(local)},
    }

    with pytest.raises(InvalidMounts, match=f"the input {path} can't be placed: .*a link .link."):
        stage({**one[source], "path": path}, volumes=("/v",), links={"link": outside})

    assert is_untouched(outside)


@pytest.mark.parametrize("link", ["dir", "dir/sub"])
def test_a_directory_is_not_merged_through_a_link(
    stage: Callable[..., StagedIn], tmp_path: Path, outside: Path, link: str
) -> None:
    first, second = tmp_path / "state/files/first", tmp_path / "state/files/second"
    (first / link).parent.mkdir(parents=True)
    (first / link).symlink_to(outside)
    (second / "dir/sub").mkdir(parents=True)
    (second / "dir/sub/f").write_text("changed")

    with pytest.raises(InvalidMounts, match="through a link"):
        stage(
            {"url": str(first), "path": "/v"},
            {"url": str(second), "path": "/v"},
            volumes=("/v",),
        )

    assert is_untouched(outside)


def test_a_file_takes_the_place_of_a_link(
    stage: Callable[..., StagedIn], server: FaultyProxy, tmp_path: Path, outside: Path
) -> None:
    local = tmp_path / "state/files/f"
    local.parent.mkdir(parents=True)
    local.write_text("new")
    server.files = {"/x": b"new"}
    links = {"a": outside / "f", "b": outside / "f", "c": outside, "d": tmp_path / "nothing"}

    stage(
        {"content": "new", "path": "/v/a"},
        {"url": str(local), "path": "/v/b"},
        {"url": f"{server.url}/x", "path": "/v/c"},
        {"content": "new", "path": "/v/d"},
        volumes=("/v",),
        links=links,
    )

    volume = tmp_path / "scratch/mounts/0"
    assert [(volume / name).read_text() for name in "abcd"] == ["new"] * 4
    assert not any((volume / name).is_symlink() for name in "abcd")
    assert is_untouched(outside)


def test_a_directory_for_everybody_is_not_made_through_a_link(
    tmp_path: Path, outside: Path
) -> None:
    task = TesTask.model_validate(
        {"volumes": ["/v", "/v/link/w"], "executors": [{"image": "x", "command": ["x"]}]}
    )
    plan = plan_mounts(task, tmp_path, {})
    (tmp_path / "mounts/0").mkdir(parents=True)
    (tmp_path / "mounts/0/link").symlink_to(outside)

    with pytest.raises(InvalidMounts, match="/v/link/w can't be placed"):
        make_directories(plan)

    assert is_untouched(outside)


def test_an_original_whose_name_is_too_long_is_not_the_node_s_fault(
    stage: Callable[..., StagedIn], tmp_path: Path
) -> None:
    (tmp_path / "state/files").mkdir(parents=True)
    with pytest.raises(InputFailed, match="can't be read: File name too long"):
        stage({"url": f"{tmp_path}/state/files/{'n' * 256}", "path": "/f"})


@pytest.mark.parametrize("path", ["/v/f/x", f"/v/{'n' * 256}", f"/v/{'n' * 256}/x"])
def test_a_path_that_can_not_be_is_not_the_node_s_fault(
    stage: Callable[..., StagedIn], path: str
) -> None:
    with pytest.raises(InvalidMounts, match=f"the input {path} can't be placed"):
        stage(
            {"content": "x", "path": "/v/f"},
            {"content": "x", "path": path},
            volumes=("/v",),
        )


def plan_in(own: Path, scratch: Path, *volumes: str) -> MountPlan:
    """A plan with a user's own directory at /job, which lies in a writable root."""
    task = TesTask.model_validate(
        {
            "inputs": [{"url": f"file://{own}", "path": "/job", "type": "DIRECTORY"}],
            "outputs": [{"path": "/job/result", "url": "file:///out"}],
            "volumes": list(volumes),
            "executors": [{"image": "x", "command": ["x"]}],
        }
    )
    return plan_mounts(task, scratch, {0: Original(own, directory=True, exposed=True)})


def test_a_user_s_own_directories_keep_their_modes(tmp_path: Path) -> None:
    own = tmp_path / "own"
    for directory in (own, own / "old"):
        directory.mkdir(mode=0o750)
    plan = plan_in(own, tmp_path / "scratch", "/job/old", "/job/new")
    for _ in range(2):  # it is called before the inputs and after them
        make_directories(plan)
        modes = [directory.stat().st_mode & 0o777 for directory in (own, own / "old", own / "new")]
        assert modes == [0o750, 0o750, 0o777]


def test_a_user_s_own_directory_that_the_service_may_not_change_is_not_the_node_s_fault(
    tmp_path: Path,
) -> None:
    unchangeable = Path("/sys")  # for root too
    with pytest.raises(InvalidMounts, match="/job/new can't be made in the input") as failed:
        make_directories(plan_in(unchangeable, tmp_path / "scratch", "/job/new"))
    assert (failed.value.transient, failed.value.of_node) == (False, False)
