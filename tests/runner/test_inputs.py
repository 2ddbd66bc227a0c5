"""Inputs brought to the node, without a container that reads them."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from raytes.config import Settings
from raytes.errors import Canceled, InputFailed
from raytes.models import TesFileType, TesTask
from raytes.runner.inputs import StagedIn, find_originals, make_directories, stage_in
from raytes.runner.mounts import plan_mounts
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
    """Stages inputs in, with the first volume's files at `tmp_path/scratch/mounts/0`."""
    settings = Settings(
        state_dir=tmp_path / "state", schemes=("file", "http"), storage={server.url: {}}
    )
    storage = Storage(settings)

    def stage(
        *inputs: dict[str, Any],
        volumes: tuple[str, ...] = (),
        stop: threading.Event | None = None,
        audience: Audience = Nobody(),  # noqa: B008
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
