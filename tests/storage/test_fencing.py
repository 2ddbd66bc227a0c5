"""An attempt that was given up while its outputs waited for their commit, and the one after it."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from raytes.attempt import Receipt
from raytes.config import LocalRoot
from raytes.errors import Canceled, OutputFailed
from raytes.storage import Authority, Entry, Output, Storage, local_output, s3

from .file_servers import SSHD, ftp_server, sftp_server
from .object_store import S3Bucket, new_bucket_name
from .publishing import discard
from .seaweedfs import KEY, SECRET
from .test_objects import entry, files_below

MIB = 2**20


@dataclass
class Place:
    """Somewhere outputs go, as an ordinary client sees it."""

    storage: Storage
    url: str
    files: Callable[[], dict[str, bytes]]
    uploads: Callable[[], int] = lambda: 0  # that somebody has begun


@dataclass
class Attempt:
    """An attempt, and whether the store thinks that it still counts."""

    number: int
    counts: bool = True
    receipts: list[Receipt] = field(default_factory=list)

    @property
    def authority(self) -> Authority:
        return Authority("task", self.number, self._ask)

    def _ask(self, receipts: list[Receipt]) -> None:
        if not self.counts:
            raise Canceled("given up")
        self.receipts += receipts


@pytest.fixture(params=["file", "s3", "ftp", "sftp"])
def place(
    request: pytest.FixtureRequest,
    make_storage: Callable[..., Storage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    shown = tmp_path / "shown"
    shown.mkdir()
    match request.param:
        case "file":
            storage = make_storage(local_root=[LocalRoot(path=shown)])
            yield Place(storage, str(shown), lambda: files_below(shown))
        case "s3":
            monkeypatch.setattr(s3, "_PART", 5 * MIB)  # the least that S3 takes
            # moto answers 500 where an upload was ended before.
            endpoint = request.getfixturevalue("seaweedfs_endpoint")
            bucket = S3Bucket(endpoint, new_bucket_name(), key=KEY, secret=SECRET)
            yield Place(
                make_storage(**bucket.settings),
                bucket.url,
                lambda: {key: bucket.get(key) or b"" for key in list(bucket.keys())},
                lambda: len(bucket.open_uploads()),
            )
        case "ftp":
            with ftp_server(shown) as server:
                yield Place(make_storage(**server.settings), server.url, lambda: files_below(shown))
        case "sftp":
            if not SSHD.exists():
                pytest.skip("OpenSSH's server is not installed")
            keys = tmp_path / "keys"
            keys.mkdir()
            with sftp_server(shown, keys) as server:
                yield Place(make_storage(**server.settings), server.url, lambda: files_below(shown))


def staged(place: Place, attempt: Attempt, url: str, entries: list[Entry]) -> Output:
    output = place.storage.output(url, attempt.authority)
    output.stage(entries, threading.Event())
    return output


def revoke(place: Place, url: str, attempt: Attempt) -> None:
    """What the attempt after `attempt` begins with."""
    numbers = range(1, attempt.number + 1)
    place.storage.revoke([url], "task", numbers, attempt.receipts, threading.Event())


NAMES = ("top", "sub/one", "sub/deep/er")
FILLING = bytes(6 * MIB)


def tree(scratch: Path, data: bytes) -> list[Entry]:
    return [entry(scratch / str(i), data + FILLING, name) for i, name in enumerate(NAMES)]


def contents(data: bytes) -> dict[str, bytes]:
    return {f"out/{name}": data + FILLING for name in NAMES}


def test_nothing_is_seen_before_the_commit(place: Place, tmp_path: Path) -> None:
    output = staged(place, Attempt(1), f"{place.url}/out", tree(tmp_path / "1", b"one"))
    assert [name for name in place.files() if "/.raytes-task-1/" not in f"/{name}"] == []
    output.commit(threading.Event())
    assert place.files() == contents(b"one")


def test_what_is_discarded_leaves_nothing(place: Place, tmp_path: Path) -> None:
    output = staged(place, Attempt(1), f"{place.url}/out", tree(tmp_path / "1", b"one"))
    discard(output)
    assert (place.files(), place.uploads()) == ({}, 0)


def test_a_late_attempt_can_not_replace_the_output_of_the_one_after_it(
    place: Place, tmp_path: Path
) -> None:
    url, never = f"{place.url}/out", threading.Event()
    early, later = Attempt(1), Attempt(2)
    late = staged(place, early, url, tree(tmp_path / "1", b"early"))

    revoke(place, url, early)
    staged(place, later, url, tree(tmp_path / "2", b"later")).commit(never)
    with pytest.raises(OutputFailed):
        late.commit(never)
    discard(late)

    assert (place.files(), place.uploads()) == (contents(b"later"), 0)


def test_what_a_late_attempt_committed_before_it_was_revoked_is_replaced(
    place: Place, tmp_path: Path
) -> None:
    url, never = f"{place.url}/out", threading.Event()
    early, later = Attempt(1), Attempt(2)
    staged(place, early, url, tree(tmp_path / "1", b"early")).commit(never)
    revoke(place, url, early)
    staged(place, later, url, tree(tmp_path / "2", b"later")).commit(never)
    assert (place.files(), place.uploads()) == (contents(b"later"), 0)


def test_what_a_killed_attempt_left_is_removed_by_the_next(place: Place, tmp_path: Path) -> None:
    url = f"{place.url}/new/deep/out"
    for number in (1, 2):
        killed = Attempt(number)
        staged(place, killed, url, [entry(tmp_path / "out", FILLING)])
        revoke(place, url, killed)
        assert (place.files(), place.uploads()) == ({}, 0)


def test_an_attempt_that_counts_no_more_leaves_nothing_of_a_large_file(
    s3: S3Bucket, make_storage: Callable[..., Storage], tmp_path: Path
) -> None:
    given_up = Attempt(1, counts=False)
    place = Place(make_storage(**s3.settings), s3.url, dict)
    with pytest.raises(Canceled):
        staged(place, given_up, f"{s3.url}/out", [entry(tmp_path / "out", bytes(9 * MIB))])
    assert (s3.keys(), s3.open_uploads()) == ([], [])


def test_receipts_tell_of_directories_that_were_there_before(
    root: Path, make_storage: Callable[..., Storage], tmp_path: Path
) -> None:
    """Where an output is merged into a tree, the next attempt can't know where to look."""
    (root / "out/sub/deep").mkdir(parents=True)
    place, attempt = Place(make_storage(), str(root), lambda: files_below(root)), Attempt(1)
    late = staged(place, attempt, f"{root}/out", tree(tmp_path / "1", b"early"))
    assert len(attempt.receipts) == 2
    revoke(place, f"{root}/out", attempt)
    assert place.files() == {}
    with pytest.raises(OutputFailed):
        late.commit(threading.Event())
    assert place.files() == {}


def test_two_outputs_of_an_attempt_do_not_disturb_each_other(place: Place, tmp_path: Path) -> None:
    attempt, never = Attempt(1), threading.Event()
    one = staged(place, attempt, f"{place.url}/one", [entry(tmp_path / "1", b"1")])
    two = staged(place, attempt, f"{place.url}/two", [entry(tmp_path / "2", b"2")])
    one.commit(never)
    two.commit(never)
    assert place.files() == {"one": b"1", "two": b"2"}


def test_a_directory_into_which_somebody_still_writes_is_removed_in_the_end(
    root: Path, make_storage: Callable[..., Storage], monkeypatch: pytest.MonkeyPatch
) -> None:
    aside = root / ".raytes-task-1"
    aside.mkdir()
    remove = shutil.rmtree
    written = iter(("a", "b"))

    def rmtree(name: str, *, dir_fd: int) -> None:
        if late := next(written, None):
            (aside / late).write_bytes(b"")
            os.rmdir(name, dir_fd=dir_fd)  # as rmtree's last step fails then
        remove(name, dir_fd=dir_fd)

    monkeypatch.setattr(local_output.shutil, "rmtree", rmtree)
    make_storage().revoke([f"{root}/out"], "task", [1], [], threading.Event())
    assert os.listdir(root) == []
