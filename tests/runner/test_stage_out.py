"""Stage-out by itself, to a web server that keeps what is PUT there."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from raytes.config import LocalRoot, Settings
from raytes.errors import Canceled
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
    stage_out.commit()

    assert server.files == {f"/{name}": name.encode() for name in "abcd"}
    assert [one.files[0].url for one in stage_out.stored] == [
        f"{server.url}/{name}" for name in "abcd"
    ]


def test_of_outputs_in_one_place_the_later_one_stays(
    stage_out: StageOut, server: FaultyProxy, tmp_path: Path
) -> None:
    add(stage_out, tmp_path, f"{server.url}/tree/1", "first")
    add(stage_out, tmp_path, f"{server.url}/tree-of-another", "other")
    add(stage_out, tmp_path, f"{server.url}/tree", "zero", "second")
    add(stage_out, tmp_path, f"{server.url}/tree/0", "third")
    stage_out.stage()
    stage_out.commit()
    assert [one.index for one in stage_out.stored] == [0, 1, 2, 3]
    puts = [request for request in server.requests if request.startswith("PUT /tree/")]
    assert (puts[0], puts[-1]) == ("PUT /tree/1", "PUT /tree/0")
    assert server.files == {
        "/tree/1": b"second",
        "/tree/0": b"third",
        "/tree-of-another": b"other",
    }


def test_what_keeps_one_from_being_stored_keeps_none_of_the_others(
    stage_out: StageOut, server: FaultyProxy, tmp_path: Path
) -> None:
    add(stage_out, tmp_path, f"{server.url}/directory/", "a file")
    paths = ("/a", "/a/b", "/a/c", *(f"/{number}" for number in range(12)))
    for path in paths:
        add(stage_out, tmp_path, f"{server.url}{path}", path)
    stage_out.stage()

    server.before_put = lambda path: 403 if path in {"/a/b", "/0"} else None
    stage_out.commit()

    assert server.files == {path: path.encode() for path in paths if path not in {"/a/b", "/0"}}
    assert [one.index for one in stage_out.stored] == [1, 3, *range(5, 16)]
    words = [str(fault) for fault in stage_out.faults]
    assert len(words) == 3
    assert "names a directory" in words[0]
    assert "/a/b" in words[1]
    assert "/0" in words[2]


def test_a_cancel_ends_them_all(
    stage_out: StageOut, server: FaultyProxy, tmp_path: Path, stop: threading.Event
) -> None:
    for name in "abcd":
        add(stage_out, tmp_path, f"{server.url}/{name}", name)
    server.meeting = threading.Barrier(4, stop.set)
    server.faults.extend(["hang"] * 4)
    stage_out.stage()
    with pytest.raises(Canceled):
        stage_out.commit()
    assert server.files == {}


def test_what_is_not_committed_is_removed_everywhere_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: threading.Event
) -> None:
    """Else each server that doesn't answer would be waited for in its turn."""
    begun: list[Future[None]] = []

    class Staged:
        def stage(self, entries: Sequence[Entry], stop: threading.Event) -> None:
            """As if it were there."""

        def discard(self) -> Future[None]:
            begun.append(Future())
            return begun[-1]

    storage = Storage(Settings(state_dir=tmp_path, schemes=("http",)))
    monkeypatch.setattr(storage, "output", lambda *_: Staged())
    waited = []
    monkeypatch.setattr(
        "raytes.runner.stage_out.futures.wait", lambda all, timeout: waited.append(list(all))
    )
    authority = Authority("task", 1, lambda receipts: None)
    (tmp_path / "outputs").mkdir()
    with StageOut(storage, authority, tmp_path, stop, Nobody()) as stage_out:
        for name in "abcd":
            add(stage_out, tmp_path / "outputs", f"http://example.org/{name}", name)
        stage_out.stage()
    assert waited == [begun]
    assert len(begun) == 4


def test_the_original_of_an_input_is_copied_once_and_only_to_where_this_node_has_it(
    tmp_path: Path, server: FaultyProxy, stop: threading.Event
) -> None:
    for name in ("scratch", "inputs", "root"):
        (tmp_path / name).mkdir()
    settings = Settings(
        state_dir=tmp_path / "state",
        local_root=[LocalRoot(path=tmp_path / "root")],
        schemes=("file", "http"),
        storage={server.url: {}},
    )
    authority = Authority("task", 1, lambda receipts: None)
    scratch = tmp_path / "scratch"
    with StageOut(Storage(settings), authority, scratch, stop, Nobody()) as stage_out:
        add(stage_out, tmp_path / "inputs", f"{server.url}/out", "data")
        original = tmp_path / "inputs/0/0"
        for index in (1, 2):
            output = TesOutput(url=f"{tmp_path}/root/{index}", path="/out", type=TesFileType.FILE)
            found = FoundOutput(TesFileType.FILE, [Entry("", original)], {"": "/out"})
            stage_out.add(index, output, found)
        stage_out.stage()
        assert original.stat().st_nlink == 1
        stage_out.commit()
        assert list(scratch.iterdir()) == []
    assert server.files == {"/out": b"data"}
    original.write_text("changed later")
    assert [(tmp_path / f"root/{index}").read_text() for index in (1, 2)] == ["data", "data"]
