"""Stage-out by itself, to a web server that keeps what is PUT there."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from raytes.config import Settings
from raytes.errors import Canceled, OutputFailed
from raytes.models import TesFileType, TesOutput
from raytes.runner.outputs import FoundOutput
from raytes.runner.stage_out import StageOut
from raytes.storage import Authority, Entry, Storage
from raytes.storage.progress import Nobody
from tests.storage.faulty_proxy import FaultyProxy, faulty_proxy


@pytest.fixture
def server() -> Iterator[FaultyProxy]:
    with faulty_proxy() as server:
        server.meets = "PUT"
        yield server


@pytest.fixture
def stage_out(tmp_path: Path, server: FaultyProxy, stop: threading.Event) -> Iterator[StageOut]:
    settings = Settings(state_dir=tmp_path, schemes=("file", "http"), storage={server.url: {}})
    authority = Authority("task", 1, lambda receipts: None)
    with StageOut(Storage(settings), authority, tmp_path, stop, Nobody()) as stage_out:
        yield stage_out


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


def add(stage_out: StageOut, directory: Path, url: str, *data: str) -> None:
    """An output of one file for each of `data`."""
    index = len(list(directory.iterdir()))
    (directory / str(index)).mkdir()
    entries = []
    for number, content in enumerate(data):
        source = directory / f"{index}/{number}"
        source.write_text(content)
        entries.append(Entry(str(number) if len(data) > 1 else "", source))
    kind = TesFileType.DIRECTORY if len(data) > 1 else TesFileType.FILE
    paths = {entry.relative: f"/out/{entry.relative}" for entry in entries}
    output = TesOutput(url=url, path="/out", type=kind)
    stage_out.add(index, output, FoundOutput(kind, entries, paths))


def test_several_outputs_are_stored_at_once(
    stage_out: StageOut, server: FaultyProxy, tmp_path: Path
) -> None:
    for name in "abcd":
        add(stage_out, tmp_path, f"{server.url}/{name}", name)
    server.meeting = threading.Barrier(4)

    stage_out.stage()
    stored = list(stage_out.commit())

    assert server.files == {f"/{name}": name.encode() for name in "abcd"}
    assert [one.files[0].url for one in stored] == [f"{server.url}/{name}" for name in "abcd"]


def test_of_outputs_in_one_place_the_later_one_stays(
    stage_out: StageOut, server: FaultyProxy, tmp_path: Path
) -> None:
    add(stage_out, tmp_path, f"{server.url}/tree/1", "first")
    add(stage_out, tmp_path, f"{server.url}/tree-of-another", "other")
    add(stage_out, tmp_path, f"{server.url}/tree", "zero", "second")
    add(stage_out, tmp_path, f"{server.url}/tree/0", "third")
    stage_out.stage()
    assert [one.index for one in stage_out.commit()] == [0, 1, 2, 3]
    puts = [request for request in server.requests if request.startswith("PUT /tree/")]
    assert (puts[0], puts[-1]) == ("PUT /tree/1", "PUT /tree/0")
    assert server.files == {
        "/tree/1": b"second",
        "/tree/0": b"third",
        "/tree-of-another": b"other",
    }


def test_those_that_are_stored_before_one_fails_are_told(
    stage_out: StageOut, server: FaultyProxy, tmp_path: Path
) -> None:
    for path in ("/a", "/a/b", "/a/c"):
        add(stage_out, tmp_path, f"{server.url}{path}", path)
    server.faults.extend(["", 403])
    stage_out.stage()
    committed = stage_out.commit()
    assert next(committed).index == 0
    with pytest.raises(OutputFailed, match=r"/a/b .*403"):
        next(committed)
    assert server.files == {"/a": b"/a"}


def test_a_cancel_ends_them_all(
    stage_out: StageOut, server: FaultyProxy, tmp_path: Path, stop: threading.Event
) -> None:
    for name in "abcd":
        add(stage_out, tmp_path, f"{server.url}/{name}", name)
    server.meeting = threading.Barrier(4, stop.set)
    server.faults.extend(["hang"] * 4)
    stage_out.stage()
    with pytest.raises(Canceled):
        list(stage_out.commit())
    assert server.files == {}
