"""Files and directories in and out of the node's own filesystems."""

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raytes.errors import Canceled, ForbiddenURL, InputFailed, OutputFailed
from raytes.models import TesFileType
from raytes.storage import Entry, Storage, Stored, local, local_output

from .publishing import publish

FILE, DIRECTORY = TesFileType.FILE, TesFileType.DIRECTORY


@pytest.fixture
def storage(make_storage: Callable[..., Storage]) -> Storage:
    return make_storage()


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    path = tmp_path / "scratch"
    path.mkdir()
    return path


@pytest.fixture(params=["linked", "copied"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to publish: on one filesystem, and (as if) from another."""
    if request.param == "copied":
        monkeypatch.setattr(local_output, "_link", lambda *_: False)
    return str(request.param)


def entry(path: Path, data: bytes, relative: str = "") -> Entry:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return Entry(relative, path)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ["a b", "100%", "a#b", "a+b", "é", "*[x]?", "a%20b"])
def test_a_file_appears_under_its_very_name(
    storage: Storage, root: Path, scratch: Path, never: threading.Event, name: str
) -> None:
    url = f"{root}/new/dirs/{name}"
    stored = publish(storage, [entry(scratch / "out", b"bytes")], url, never)
    assert stored == [Stored("", url, 5)]
    assert (root / "new/dirs" / name).read_bytes() == b"bytes"
    assert os.listdir(root / "new/dirs") == [name]


@pytest.mark.usefixtures("way")
def test_a_file_url_is_decoded(
    storage: Storage, root: Path, scratch: Path, never: threading.Event
) -> None:
    publish(storage, [entry(scratch / "out", b"")], f"file://{root}/a%20b%2Fc", never)
    assert (root / "a b/c").read_bytes() == b""


@pytest.mark.usefixtures("way")
def test_a_shorter_output_leaves_no_old_bytes(
    storage: Storage, root: Path, scratch: Path, never: threading.Event
) -> None:
    (root / "out").write_bytes(b"older and much longer")
    with (root / "out").open("rb") as reader:
        publish(storage, [entry(scratch / "out", b"new")], f"{root}/out", never)
        # Whoever reads the old file goes on reading the old file: it was replaced, not written.
        assert reader.read() == b"older and much longer"
    assert (root / "out").read_bytes() == b"new"


def test_on_one_filesystem_nothing_is_copied(
    storage: Storage, root: Path, scratch: Path, never: threading.Event
) -> None:
    out = entry(scratch / "out", b"bytes")
    inode = (scratch / "out").stat().st_ino
    publish(storage, [out], f"{root}/out", never)
    assert (root / "out").stat().st_ino == inode


def test_a_file_that_is_published_twice_is_two_files(
    storage: Storage, root: Path, scratch: Path, never: threading.Event
) -> None:
    out = entry(scratch / "out", b"bytes")
    publish(storage, [out], f"{root}/1", never)
    publish(storage, [out], f"{root}/2", never)
    with (root / "1").open("ab") as file:
        file.write(b" and more")
    assert (root / "2").read_bytes() == b"bytes"


@pytest.mark.usefixtures("way")
def test_a_published_file_is_plain_and_belongs_to_the_service(
    storage: Storage, root: Path, scratch: Path, never: threading.Event
) -> None:
    outputs = [
        entry(scratch / "data", b"x", "data"),
        entry(scratch / "program", b"x", "program"),
        entry(scratch / "secret", b"x", "secret"),
    ]
    (scratch / "program").chmod(0o4755)
    (scratch / "secret").chmod(0o600)
    if os.geteuid() == 0:
        for output in outputs:
            assert output.source
            os.chown(output.source, 1234, 5678)
        (scratch / "program").chmod(0o4755)
    umask = os.umask(0o027)
    try:
        publish(storage, outputs, f"{root}/out", never)
    finally:
        os.umask(umask)
    for name, mode in [("data", 0o640), ("program", 0o750), ("secret", 0o640)]:
        status = (root / "out" / name).stat()
        assert (status.st_mode & 0o7777, status.st_uid) == (mode, os.geteuid())


@pytest.mark.usefixtures("way")
def test_a_directory_is_merged_with_its_empty_directories(
    storage: Storage, root: Path, scratch: Path, never: threading.Event
) -> None:
    (root / "out/sub").mkdir(parents=True)
    (root / "out/sub/old").write_bytes(b"old")
    entries = [
        entry(scratch / "1", b"1", "sub/new name"),
        entry(scratch / "2", b"22", "other/deep/file"),
        Entry("empty/er", None),
    ]
    stored = publish(storage, entries, f"file://{root}/out/", never)
    assert stored == [
        Stored("sub/new name", f"file://{root}/out/sub/new%20name", 1),
        Stored("other/deep/file", f"file://{root}/out/other/deep/file", 2),
    ]
    assert (root / "out/sub/old").read_bytes() == b"old"
    assert (root / "out/sub/new name").read_bytes() == b"1"
    assert (root / "out/empty/er").is_dir()


def test_an_empty_directory_output_is_an_empty_directory(
    storage: Storage, root: Path, never: threading.Event
) -> None:
    assert publish(storage, [Entry("", None)], f"{root}/out", never) == []
    assert (root / "out").is_dir()


def test_a_link_below_the_output_that_leaves_the_root_is_not_followed(
    storage: Storage, root: Path, scratch: Path, tmp_path: Path, never: threading.Event
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "out").mkdir()
    (root / "out/sub").symlink_to(outside)
    with pytest.raises(ForbiddenURL):
        publish(storage, [entry(scratch / "1", b"evil", "sub/file")], f"{root}/out", never)
    assert list(outside.iterdir()) == []


def test_a_directory_swapped_for_a_link_after_the_check_is_not_followed(
    storage: Storage,
    root: Path,
    scratch: Path,
    tmp_path: Path,
    never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "out").mkdir()
    opened = local_output._opened

    def swap_first(target: local_output.LocalTarget, *, create: bool) -> object:
        if (root / "out").is_dir() and not (root / "out").is_symlink():
            (root / "out").rmdir()
            (root / "out").symlink_to(outside)
        return opened(target, create=create)

    monkeypatch.setattr(local_output, "_opened", swap_first)
    with pytest.raises(OutputFailed):
        publish(storage, [entry(scratch / "1", b"evil")], f"{root}/out/file", never)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("ending", ["/", "/existing"])
def test_a_file_output_that_names_a_directory_is_refused(
    storage: Storage, root: Path, scratch: Path, never: threading.Event, ending: str
) -> None:
    (root / "out/existing").mkdir(parents=True)
    with pytest.raises(OutputFailed, match="Is a directory"):
        publish(storage, [entry(scratch / "1", b"x")], f"{root}/out{ending}", never)
    assert os.listdir(root / "out") == ["existing"]


def test_a_file_in_the_way_of_a_directory_is_named(
    storage: Storage, root: Path, scratch: Path, never: threading.Event
) -> None:
    (root / "file").write_bytes(b"")
    with pytest.raises(OutputFailed, match=f"{root}/file/out.*Not a directory"):
        publish(storage, [entry(scratch / "1", b"x")], f"{root}/file/out", never)


def test_a_canceled_copy_leaves_nothing(
    storage: Storage, root: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_output, "_link", lambda *_: False)
    stop = threading.Event()
    sendfile = os.sendfile

    def send_and_cancel(*arguments: int) -> int:
        stop.set()
        return sendfile(*arguments)

    monkeypatch.setattr(local.os, "sendfile", send_and_cancel)
    monkeypatch.setattr(local.fcntl, "ioctl", _cannot_share)
    with pytest.raises(Canceled):
        publish(storage, [entry(scratch / "1", b"x" * 100)], f"{root}/out", stop)
    assert os.listdir(root) == []


def _cannot_share(*_: object) -> None:
    raise OSError


def test_a_file_is_copied_in_with_its_mode(
    storage: Storage, root: Path, scratch: Path, never: threading.Event
) -> None:
    (root / "script").write_bytes(b"#!")
    (root / "script").chmod(0o755)
    assert storage.fetch(f"{root}/script", None, scratch / "script", never) is FILE
    assert (scratch / "script").read_bytes() == b"#!"
    assert (scratch / "script").stat().st_mode & 0o777 == 0o755


def test_a_tree_is_copied_in_with_its_links_as_links(
    storage: Storage, root: Path, scratch: Path, never: threading.Event
) -> None:
    (root / "tree/sub/empty").mkdir(parents=True)
    (root / "tree/sub/file").write_bytes(b"x")
    (root / "tree/out").symlink_to("/etc")
    (root / "tree/inside").symlink_to("sub/file")
    os.mkfifo(root / "tree/fifo")
    assert storage.fetch(f"file://{root}/tree", FILE, scratch / "tree", never) is DIRECTORY
    assert sorted(str(path.relative_to(scratch / "tree")) for path in walk(scratch / "tree")) == [
        "inside",
        "out",
        "sub",
        "sub/empty",
        "sub/file",
    ]
    assert os.readlink(scratch / "tree/out") == "/etc"
    assert (scratch / "tree/inside").read_bytes() == b"x"


def test_a_directory_swapped_for_a_link_while_its_tree_is_copied_in_is_not_followed(
    storage: Storage, root: Path, scratch: Path, tmp_path: Path, never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for place in ("outside", "root/tree/a", "root/tree/b"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "file").write_bytes(place.encode())
    copy_bytes = local.copy_bytes

    def copy_and_swap(*arguments: Any) -> None:
        copy_bytes(*arguments)
        for name in ("a", "b"):  # whichever comes second
            if not (scratch / "tree" / name).exists():
                shutil.rmtree(root / "tree" / name)
                (root / "tree" / name).symlink_to(tmp_path / "outside")

    monkeypatch.setattr(local, "copy_bytes", copy_and_swap)
    with pytest.raises(InputFailed, match=r"leads through a link \([ab]\)"):
        storage.fetch(f"{root}/tree", DIRECTORY, scratch / "tree", never)


@pytest.mark.parametrize("kind", [FILE, DIRECTORY, None])
def test_an_input_that_is_not_there_is_named(
    storage: Storage,
    root: Path,
    scratch: Path,
    never: threading.Event,
    kind: TesFileType | None,
) -> None:
    with pytest.raises(InputFailed, match=f"{root}/none doesn't exist") as failed:
        storage.fetch(f"file://{root}/none", kind, scratch / "in", never)
    assert not failed.value.transient


@pytest.mark.parametrize(
    ("number", "of_node"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False)]
)
def test_an_input_for_which_a_disk_fails_is_tried_again_and_a_full_one_is_the_node_s_fault(
    storage: Storage, root: Path, scratch: Path, never: threading.Event,
    monkeypatch: pytest.MonkeyPatch, number: int, *, of_node: bool,
) -> None:  # fmt: skip
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    (root / "in").write_bytes(b"x")
    monkeypatch.setattr(os, "sendfile", refuse)
    with pytest.raises(InputFailed, match=os.strerror(number)) as failed:
        storage.fetch(f"{root}/in", FILE, scratch / "in", never)
    assert (failed.value.transient, failed.value.of_node) == (True, of_node)


def test_a_pipe_is_no_input(
    storage: Storage, root: Path, scratch: Path, never: threading.Event
) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(InputFailed, match="neither a file nor a directory"):
        storage.fetch(f"{root}/pipe", FILE, scratch / "in", never)


def walk(directory: Path) -> Iterator[Path]:
    for child in directory.iterdir():
        yield child
        if child.is_dir() and not child.is_symlink():
            yield from walk(child)
