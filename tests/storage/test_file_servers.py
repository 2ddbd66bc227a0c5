"""Files and directories in and out of real FTP and SSH servers."""

import asyncio
import ftplib
import logging
import os
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import quote

import asyncssh
import pytest
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler

from raytes.errors import Canceled, ForbiddenURL, InputFailed, OutputFailed
from raytes.models import TesFileType
from raytes.storage import Entry, Progress, Storage, ftp, retry, sftp
from raytes.storage.objects import Object
from raytes.storage.progress import Nobody

from .file_servers import SSHD, FileServer, ftp_server, sftp_server
from .publishing import authority, discard, publish
from .strict_ftps import strict_ftps
from .test_objects import ODD_KEYS, entry, files_below

FILE, DIRECTORY = TesFileType.FILE, TesFileType.DIRECTORY
MIB = 2**20


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.001)


@pytest.fixture(scope="module", params=["ftp", "old-ftp", "sftp"])
def module_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FileServer]:
    root, directory = tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("server")
    if request.param == "sftp":
        if not SSHD.exists():
            pytest.skip("OpenSSH's server is not installed")
        with sftp_server(root, directory) as server:
            yield server
    else:
        lacks = ("MLSD", "MLST") if request.param == "old-ftp" else ()
        with ftp_server(root, *lacks) as server:
            yield server


@pytest.fixture
def server(module_server: FileServer, request: pytest.FixtureRequest) -> FileServer:
    """A directory of the test's own on each kind of server in turn."""
    name = f"test {abs(hash(request.node.name))}"
    (module_server.root / name).mkdir()
    return replace(
        module_server, url=f"{module_server.url}/{quote(name)}", root=module_server.root / name
    )


@pytest.fixture
def storage(make_storage: Callable[..., Storage], server: FileServer) -> Storage:
    return make_storage(**server.settings)


@pytest.mark.parametrize("data", [b"", b"small", os.urandom(5 * MIB)])
def test_a_file_goes_out_and_comes_back(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event, data: bytes
) -> None:
    url = f"{server.url}/new/deep/file"
    out, back = Progress(), Progress()
    (stored,) = publish(storage, [entry(tmp_path / "out", data)], url, never, progress=out)
    assert (stored.url, stored.size_bytes) == (url, len(data))
    assert (server.root / "new/deep/file").read_bytes() == data
    assert os.listdir(server.root / "new/deep") == ["file"]
    assert storage.fetch(url, None, tmp_path / "in", never, progress=back) is FILE
    assert (tmp_path / "in").read_bytes() == data
    assert (out.moved, back.moved, back.files) == (len(data), len(data), 1)


def test_names_of_every_kind_go_out_and_come_back_in_a_directory(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event
) -> None:
    entries = [
        entry(tmp_path / f"out/{number}", str(number).encode(), f"sub dir/{key}")
        for number, key in enumerate(ODD_KEYS)
    ]
    entries.append(Entry("nothing/in it", None))
    publish(storage, entries, f"{server.url}/tree", never)
    expected = {one.relative: one.source.read_bytes() for one in entries if one.source}
    assert files_below(server.root / "tree") == expected

    assert storage.fetch(f"{server.url}/tree", None, tmp_path / "in", never) is DIRECTORY

    assert files_below(tmp_path / "in") == expected
    assert (tmp_path / "in/nothing/in it").is_dir()


def test_a_directory_is_what_lies_in_it_and_nothing_else(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event
) -> None:
    for path in ("a/one", "ab/two", "a.txt"):
        entry(server.root / path, b"x")
    (server.root / "a/link").symlink_to("one")
    (server.root / "a/dangling").symlink_to("nowhere")
    storage.fetch(f"{server.url}/a/", DIRECTORY, tmp_path / "in", never)
    assert files_below(tmp_path / "in") == {"one": b"x", "link": b"x"}
    assert not (tmp_path / "in/link").is_symlink()


@pytest.mark.parametrize("module_server", ["old-ftp"], indirect=True)
@pytest.mark.parametrize(
    "line", ["01-01-26  10:00AM  1 one", "01-01-26  10:00AM  <DIR>  o n e t w o", "one", "one two"]
)
def test_a_listing_that_can_not_be_read_is_not_taken_for_an_empty_directory(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event,
    monkeypatch: pytest.MonkeyPatch, line: str,
) -> None:  # fmt: skip
    def listed(*_: object, **__: bool) -> Iterator[bytes]:
        yield f"{line}\r\n".encode()

    monkeypatch.setattr("pyftpdlib.filesystems.AbstractedFS.format_list", listed)
    entry(server.root / "a/one", b"x")
    with pytest.raises(InputFailed, match="in a way that isn't known here"):
        storage.fetch(f"{server.url}/a/", DIRECTORY, tmp_path / "in", never)


def list_each_as(shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has an FTP server say so little before the name of whatever it lists."""

    def listed(_: object, __: str, names: list[str], *___: object, **____: bool) -> Iterator[bytes]:
        yield from (f"{shown} {name}\r\n".encode() for name in [".", "..", *names])

    monkeypatch.setattr("pyftpdlib.filesystems.AbstractedFS.format_mlsx", listed)


@pytest.mark.parametrize("module_server", ["ftp"], indirect=True)
@pytest.mark.parametrize("shown", ["drwxr-xr-x 2 u g 4096 Jan 1 10:00", "type=file;size", ";"])
def test_a_listing_of_something_else_than_facts_is_not_taken_for_names(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event,
    monkeypatch: pytest.MonkeyPatch, shown: str,
) -> None:  # fmt: skip
    list_each_as(shown, monkeypatch)
    entry(server.root / "a/one", b"x")
    with pytest.raises(InputFailed, match="in a way that isn't known here"):
        storage.fetch(f"{server.url}/a/", DIRECTORY, tmp_path / "in", never)


@pytest.mark.parametrize("module_server", ["ftp"], indirect=True)
def test_a_listing_need_not_tell_what_is_a_directory(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    list_each_as("x.odd=1;", monkeypatch)
    for path in ("a/one", "a/sub/two"):
        entry(server.root / path, b"x")
    storage.fetch(f"{server.url}/a/", DIRECTORY, tmp_path / "in", never)
    assert files_below(tmp_path / "in") == {"one": b"x", "sub/two": b"x"}


@pytest.mark.parametrize("module_server", ["ftp"], indirect=True)
def test_what_a_listing_tells_of_files_is_not_asked_again(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked: list[str] = []
    send = ftplib.FTP.putline

    def putline(self: ftplib.FTP, line: str) -> None:
        asked.append(line.partition(" ")[0])
        send(self, line)

    monkeypatch.setattr(ftplib.FTP, "putline", putline)
    for path in ("a/one", "a/two"):
        entry(server.root / path, b"x")
    storage.fetch(f"{server.url}/a/", DIRECTORY, tmp_path / "in", never)
    assert {"SIZE", "MDTM"}.isdisjoint(asked)
    assert asked.count("MLST") == 2  # each when it has been read


@pytest.mark.parametrize("module_server", ["ftp"], indirect=True)
@pytest.mark.parametrize("answer", ["250 Yes.", "250-Listing\r\nfile\r\n250 End."])
def test_a_server_that_tells_nothing_of_a_file_at_once_is_asked(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event,
    monkeypatch: pytest.MonkeyPatch, answer: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(FTPHandler, "ftp_MLST", lambda self, _: self.respond(answer))
    entry(server.root / "in", b"data")
    assert storage.fetch(f"{server.url}/in", None, tmp_path / "in", never) is FILE
    (server.root / "out").mkdir()
    assert storage.fetch(f"{server.url}/out", None, tmp_path / "out", never) is DIRECTORY


def lock(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has an FTP server let nobody at what is there and below."""
    has_perm = DummyAuthorizer.has_perm

    def may(self: DummyAuthorizer, user: str, perm: str, path: str | None = None) -> bool:
        return not str(path).startswith(str(place)) and bool(has_perm(self, user, perm, path))

    monkeypatch.setattr(DummyAuthorizer, "has_perm", may)


@pytest.mark.parametrize("module_server", ["ftp", "old-ftp"], indirect=True)
@pytest.mark.parametrize(
    ("locked", "wanted", "kind"),
    [("in", "in", FILE), ("in", "in", None), ("in", "in", DIRECTORY), ("in", "in/one", FILE),
     ("in/sub", "in", DIRECTORY)],
)  # fmt: skip
def test_what_may_not_be_read_is_refused_in_the_server_s_words(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event,
    monkeypatch: pytest.MonkeyPatch, locked: str, wanted: str, kind: TesFileType | None,
) -> None:  # fmt: skip
    lock(server.root / locked, monkeypatch)
    for path in ("in/one", "in/sub/two"):
        entry(server.root / path, b"x")
    with pytest.raises(InputFailed, match="550 Not enough privileges"):
        storage.fetch(f"{server.url}/{wanted}", kind, tmp_path / "in", never)


@pytest.mark.parametrize("module_server", ["ftp"], indirect=True)
@pytest.mark.parametrize("locked", ["in/one", "in/sub", "in/sub/two"])
def test_what_may_not_be_read_is_not_left_out_where_a_listing_does_not_tell_what_it_is(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event,
    monkeypatch: pytest.MonkeyPatch, locked: str,
) -> None:  # fmt: skip
    list_each_as("x.odd=1;", monkeypatch)
    lock(server.root / locked, monkeypatch)
    for path in ("in/one", "in/sub/two", "in/three"):
        entry(server.root / path, b"x")
    with pytest.raises(InputFailed, match=f"{locked} in it can't be read .*550 Not enough"):
        storage.fetch(f"{server.url}/in", DIRECTORY, tmp_path / "in", never)


def test_a_link_that_leads_in_circles_has_an_end(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event
) -> None:
    entry(server.root / "a/one", b"x")
    (server.root / "a/circle").symlink_to(".")
    storage.fetch(f"{server.url}/a/", DIRECTORY, tmp_path / "in", never)
    assert set(files_below(tmp_path / "in")) - {"circle/one"} == {"one"}


def test_an_empty_directory_is_a_directory(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event
) -> None:
    (server.root / "empty").mkdir()
    assert storage.fetch(f"{server.url}/empty", None, tmp_path / "in", never) is DIRECTORY
    assert list((tmp_path / "in").iterdir()) == []


def test_what_is_not_there_is_said(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event
) -> None:
    for kind in (FILE, DIRECTORY):
        with pytest.raises(InputFailed, match=r"/none can't be fetched: it doesn't exist") as error:
            storage.fetch(f"{server.url}/none", kind, tmp_path / "in", never)
        assert not error.value.transient


def test_an_output_replaces_what_was_there(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event
) -> None:
    (server.root / "out").write_bytes(b"something longer")
    publish(storage, [entry(tmp_path / "out", b"new")], f"{server.url}/out", never)
    assert (server.root / "out").read_bytes() == b"new"


def test_an_output_in_place_of_a_directory_is_refused_and_leaves_nothing(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event
) -> None:
    (server.root / "out").mkdir()
    entry(server.root / "out/f", b"x")
    with pytest.raises(OutputFailed, match=r"/out can't be stored: the server answered"):
        publish(storage, [entry(tmp_path / "out", b"new")], f"{server.url}/out", never)
    assert files_below(server.root) == {"out/f": b"x"}


def test_an_output_that_has_become_a_pipe_is_not_waited_for(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event
) -> None:
    os.mkfifo(tmp_path / "out")
    with pytest.raises(OutputFailed, match="no regular file"):
        publish(storage, [Entry("", tmp_path / "out")], f"{server.url}/out", never)
    assert os.listdir(server.root) == []


def test_an_object_is_fetched_once_and_again_when_it_has_changed(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event
) -> None:
    moved = []
    for when, data in ((1000, b"old!"), (1000, b"old!"), (2000, b"new!")):
        (server.root / "in").write_bytes(data)
        os.utime(server.root / "in", (when, when))
        progress = Progress()
        storage.fetch(f"{server.url}/in", FILE, tmp_path / "in", never, progress=progress)
        assert (tmp_path / "in").read_bytes() == data
        moved.append(progress.moved)
    assert moved == [4, 0, 4]


def test_many_small_files_come_and_go(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event
) -> None:
    entries = [entry(tmp_path / f"out/{i}", str(i).encode(), f"d/{i}") for i in range(100)]
    publish(storage, entries, f"{server.url}/many", never)
    storage.fetch(f"{server.url}/many", DIRECTORY, tmp_path / "in", never)
    assert files_below(tmp_path / "in") == {f"d/{i}": str(i).encode() for i in range(100)}


def test_a_transfer_can_be_canceled(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event
) -> None:
    with (server.root / "in").open("wb") as file:
        file.truncate(4000 * MIB)
    stop = threading.Event()
    ticks = iter(range(0, 10**9, 10))  # seconds: long enough that there is a line at once
    audience = Mock(Nobody, line=lambda message: stop.set())
    begun = Progress("in", audience, clock=lambda: next(ticks))
    with pytest.raises(Canceled):
        storage.fetch(f"{server.url}/in", FILE, tmp_path / "in", stop, progress=begun)
    (server.root / "in").unlink()
    (server.root / "after").write_bytes(b"it goes on")
    storage.fetch(f"{server.url}/after", FILE, tmp_path / "after", never)
    assert (tmp_path / "after").read_bytes() == b"it goes on"


@pytest.mark.parametrize("module_server", ["ftp", "sftp"], indirect=True)
def test_a_file_that_is_written_anew_while_it_is_read_is_not_mixed(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event
) -> None:
    served = server.root / "in"
    served.write_bytes(os.urandom(12 * MIB))
    os.utime(served, (1000, 1000))
    ticks = iter(range(0, 10**9, 10))  # seconds: long enough that there is a line at once
    audience = Mock(Nobody, line=lambda message: os.utime(served, (2000, 2000)))
    begun = Progress("in", audience, clock=lambda: next(ticks))
    with pytest.raises(InputFailed, match="replaced while it was being read") as failed:
        storage.fetch(f"{server.url}/in", FILE, tmp_path / "in", never, progress=begun)
    assert failed.value.transient
    storage.fetch(f"{server.url}/in", FILE, tmp_path / "in", never)
    assert (tmp_path / "in").read_bytes() == served.read_bytes()


@pytest.mark.parametrize("module_server", ["ftp"], indirect=True)
def test_what_was_canceled_while_it_connected_leaves_a_later_file_alone(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (server.root / "in").write_bytes(b"data")
    ((prefix, section),) = server.settings["storage"].items()
    store = ftp.FtpStore(section, prefix.removeprefix("ftp://"), guarded=False)
    connects, may_connect, connect = threading.Event(), threading.Event(), socket.create_connection

    def connect_slowly(*arguments: Any, **others: Any) -> socket.socket:
        connects.set()
        may_connect.wait(60)
        return connect(*arguments, **others)

    async def get_and_cancel() -> None:
        found = Object(f"/{server.root.name}/in", 4, None)
        get = asyncio.create_task(store.get(found, tmp_path / "in", Progress().begin()))
        await asyncio.to_thread(connects.wait, 60)
        get.cancel()
        with suppress(asyncio.CancelledError):
            await get
        (tmp_path / "in").write_bytes(b"a later one's")
        may_connect.set()

    monkeypatch.setattr(ftplib.socket, "create_connection", connect_slowly)
    asyncio.run(get_and_cancel())  # which waits for its threads
    assert (tmp_path / "in").read_bytes() == b"a later one's"


@pytest.fixture
def lost_answer(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has the next file be renamed without a word: the connection breaks before the answer."""
    lost: list[str] = []
    rename_over_ftp, rename_over_sftp = ftplib.FTP.rename, asyncssh.SFTPClient.posix_rename

    def ftp_rename(self: ftplib.FTP, old: str, new: str) -> str:
        answer = rename_over_ftp(self, old, new)
        if not lost:
            lost.append(new)
            raise EOFError
        return answer

    async def sftp_rename(self: asyncssh.SFTPClient, old: str, new: str) -> None:
        await rename_over_sftp(self, old, new)
        if not lost:
            lost.append(new)
            raise asyncssh.SFTPConnectionLost("lost")

    monkeypatch.setattr(ftplib.FTP, "rename", ftp_rename)
    monkeypatch.setattr(asyncssh.SFTPClient, "posix_rename", sftp_rename)
    return lost


@pytest.mark.parametrize("module_server", ["ftp", "sftp"], indirect=True)
def test_an_output_whose_renaming_was_not_answered_is_known_in_its_place(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event,
    lost_answer: list[str],
) -> None:  # fmt: skip
    entry(server.root / "deep/out", b"old")
    url = f"{server.url}/deep/out"
    (stored,) = publish(storage, [entry(tmp_path / "out", b"new")], url, never)
    assert lost_answer
    assert stored.size_bytes == 3
    assert files_below(server.root) == {"deep/out": b"new"}


@pytest.mark.parametrize("module_server", ["ftp", "sftp"], indirect=True)
def test_what_was_there_before_is_not_taken_for_an_output_that_is_gone(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event
) -> None:
    entry(server.root / "out", b"old")
    os.utime(server.root / "out", (1000, 1000))
    output = storage.output(f"{server.url}/out", authority())
    output.stage([entry(tmp_path / "out", b"new")], never)
    ((staged,),) = [list(one.iterdir()) for one in server.root.glob(".raytes-*")]
    staged.unlink()
    with pytest.raises(OutputFailed, match="is gone") as failed:
        output.commit(never)
    discard(output)
    assert failed.value.transient
    assert (server.root / "out").read_bytes() == b"old"


@pytest.mark.parametrize("lacks", [("SIZE",), ("SIZE", "MDTM"), ("SIZE", "MDTM", "MLSD")])
def test_an_output_whose_renaming_was_not_answered_stays_where_no_size_is_told(
    make_storage: Callable[..., Storage],
    root: Path,
    tmp_path: Path,
    never: threading.Event,
    lost_answer: list[str],
    lacks: tuple[str, ...],
) -> None:
    with ftp_server(root, "MLST", *lacks) as server:
        storage = make_storage(**server.settings)
        expected = (
            pytest.raises(OutputFailed, match="is gone") if "MDTM" in lacks else nullcontext()
        )
        with expected:
            publish(storage, [entry(tmp_path / "out", b"new")], f"{server.url}/out", never)
    assert lost_answer
    assert files_below(root) == {"out": b"new"}


@pytest.mark.parametrize("module_server", ["sftp"], indirect=True)
def test_files_of_which_a_listing_tells_no_time_are_fetched(
    storage: Storage,
    server: FileServer,
    tmp_path: Path,
    never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry(server.root / "tree/file", b"data")
    scandir = asyncssh.SFTPClient.scandir

    async def without_times(self: asyncssh.SFTPClient, path: str) -> AsyncIterator[Any]:
        async for each in scandir(self, path):
            each.attrs.mtime = None
            yield each

    monkeypatch.setattr(asyncssh.SFTPClient, "scandir", without_times)
    storage.fetch(f"{server.url}/tree", DIRECTORY, tmp_path / "tree", never)
    assert files_below(tmp_path / "tree") == {"file": b"data"}


@pytest.fixture
def impatient(
    monkeypatch: pytest.MonkeyPatch, make_storage: Callable[..., Storage], server: FileServer
) -> Storage:
    """Waits for a second, not a minute, for a server that has stopped."""
    for module in (ftp, sftp):
        monkeypatch.setattr(module, "_TIMEOUT", 1)
    return make_storage(**server.settings)


def hanging(server: FileServer) -> Progress:
    """Has the server stop in the middle of the first transfer that this is told of."""
    hang = [server.hang]
    ticks = iter(range(0, 10**9, 10))  # seconds: long enough that there is a line at once
    audience = Mock(Nobody, line=lambda message: hang and hang.pop()())
    return Progress("it", audience, clock=lambda: next(ticks))


@pytest.mark.parametrize("module_server", ["ftp", "sftp"], indirect=True)
def test_a_download_that_stops_in_the_middle_is_begun_again(
    impatient: Storage, server: FileServer, tmp_path: Path, never: threading.Event
) -> None:
    data = os.urandom(12 * MIB)
    (server.root / "in").write_bytes(data)
    impatient.fetch(f"{server.url}/in", FILE, tmp_path / "in", never, progress=hanging(server))
    assert (tmp_path / "in").read_bytes() == data


@pytest.mark.parametrize("module_server", ["ftp", "sftp"], indirect=True)
def test_an_upload_that_stops_in_the_middle_is_begun_again(
    impatient: Storage, server: FileServer, tmp_path: Path, never: threading.Event
) -> None:
    data = os.urandom(12 * MIB)
    url = f"{server.url}/out"
    publish(impatient, [entry(tmp_path / "out", data)], url, never, progress=hanging(server))
    assert (server.root / "out").read_bytes() == data


@pytest.mark.parametrize("module_server", ["sftp"], indirect=True)
def test_a_server_that_has_stopped_between_two_transfers_is_connected_to_again(
    impatient: Storage, server: FileServer, tmp_path: Path, never: threading.Event
) -> None:
    (server.root / "in").write_bytes(b"first")
    impatient.fetch(f"{server.url}/in", FILE, tmp_path / "first", never)
    server.hang()
    assert impatient.fetch(f"{server.url}/in", FILE, tmp_path / "in", never) is FILE


class _Exits(logging.Handler):
    """Tells when asyncssh has noticed that its connection has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "SFTP client exited" in record.getMessage():
            self.seen.set()


@pytest.mark.parametrize("module_server", ["ftp", "sftp"], indirect=True)
def test_a_connection_that_the_server_has_ended_meanwhile_is_opened_again(
    storage: Storage, server: FileServer, tmp_path: Path, never: threading.Event,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (server.root / "in").write_bytes(b"data")
    for number in range(40):  # so that there are several connections, if there may be
        entry(server.root / f"tree/{number}", b"data")
    storage.fetch(f"{server.url}/tree", DIRECTORY, tmp_path / "before", never)
    monkeypatch.setattr(retry, "ATTEMPTS", 2)  # the first is over what has ended
    exits, log = _Exits(), logging.getLogger("asyncssh")
    caplog.set_level(logging.INFO, "asyncssh")
    log.addHandler(exits)
    try:
        server.hang_up()
        assert server.url.startswith("ftp") or exits.seen.wait(60)
    finally:
        log.removeHandler(exits)
    assert storage.fetch(f"{server.url}/in", FILE, tmp_path / "in", never) is FILE
    publish(storage, [entry(tmp_path / "out", b"data")], f"{server.url}/out", never)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl isn't installed")
def test_over_tls_the_data_comes_in_the_session_of_the_commands(
    make_storage: Callable[..., Storage], tmp_path: Path, never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    data = os.urandom(MIB)
    with strict_ftps(tmp_path, data) as (url, certificate):
        storage = make_storage(schemes=("ftp",), storage={url: {"tls": True}})
        with pytest.raises(InputFailed, match="certificate can't be verified"):
            storage.fetch(f"{url}/file", FILE, tmp_path / "in", never)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert storage.fetch(f"{url}/file", FILE, tmp_path / "in", never) is FILE
    assert (tmp_path / "in").read_bytes() == data


def test_wrong_credentials_are_said_without_them(
    make_storage: Callable[..., Storage],
    server: FileServer,
    tmp_path: Path,
    never: threading.Event,
) -> None:
    ((prefix, section),) = server.settings["storage"].items()
    wrong = section | {"username": "nobody-here", "password": "not-this-one"}
    storage = make_storage(**(server.settings | {"storage": {prefix: wrong}}))
    with pytest.raises(InputFailed, match="access is denied") as error:
        storage.fetch(f"{server.url}/in", FILE, tmp_path / "in", never)
    assert "not-this-one" not in str(error.value)


def test_a_server_that_is_away_is_a_passing_cause(
    storage: Storage, make_storage: Callable[..., Storage], server: FileServer, tmp_path: Path,
    never: threading.Event,
) -> None:  # fmt: skip
    scheme = server.url.partition(":")[0]
    url = f"{scheme}://127.0.0.1:9"
    settings = server.settings | {"storage": {url: {}}}
    with pytest.raises(InputFailed, match="the connection failed") as error:
        make_storage(**settings).fetch(f"{url}/in", FILE, tmp_path / "in", never)
    assert error.value.transient


def test_without_a_section_the_node_s_own_addresses_are_refused(
    make_storage: Callable[..., Storage], server: FileServer
) -> None:
    storage = make_storage(**(server.settings | {"storage": {}}))
    assert storage.refusal_of_input(server.url) is not None
    with pytest.raises(ForbiddenURL):
        storage.local_path(server.url)


@pytest.mark.parametrize("sections", [{}, {"ftp://": {"username": "lab"}}])
def test_a_name_that_leads_to_the_node_itself_is_refused_when_it_is_used(
    make_storage: Callable[..., Storage], tmp_path: Path, never: threading.Event,
    monkeypatch: pytest.MonkeyPatch, sections: dict[str, dict[str, str]],
) -> None:  # fmt: skip
    def resolve(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(None, None, None, "", ("127.0.0.1", 21))]

    monkeypatch.setattr("raytes.storage.ftp.socket.getaddrinfo", resolve)
    storage = make_storage(schemes=("ftp",), storage=sections)
    with pytest.raises(ForbiddenURL, match=r"127\.0\.0\.1 is an address of the node itself"):
        storage.fetch("ftp://inside.example.org/in", FILE, tmp_path / "in", never)


@pytest.mark.parametrize("module_server", ["sftp"], indirect=True)
def test_a_server_whose_key_is_not_known_is_refused(
    make_storage: Callable[..., Storage], server: FileServer, tmp_path: Path, never: threading.Event
) -> None:
    ((prefix, section),) = server.settings["storage"].items()
    (tmp_path / "known_hosts").write_text("")
    changed = section | {"known_hosts": str(tmp_path / "known_hosts")}
    storage = make_storage(**(server.settings | {"storage": {prefix: changed}}))
    with pytest.raises(InputFailed, match="the server's key can't be verified") as error:
        storage.fetch(f"{server.url}/in", FILE, tmp_path / "in", never)
    assert not error.value.transient
