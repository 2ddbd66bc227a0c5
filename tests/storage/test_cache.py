"""Remote inputs that a node fetches once."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raytes.errors import Canceled
from raytes.models import TesFileType
from raytes.storage import Progress, Storage

from .faulty_proxy import FaultyProxy, faulty_proxy
from .object_store import Bucket, S3Bucket

FILE, DIRECTORY = TesFileType.FILE, TesFileType.DIRECTORY


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def make(
    make_storage: Callable[..., Storage], s3: S3Bucket, proxy: FaultyProxy
) -> Callable[..., Storage]:
    """Storages as the runners of one node have them: of their own, over one directory."""

    def make(**settings: object) -> Storage:
        options = s3.options | {"endpoint_url": proxy.url}
        return make_storage(storage={"s3://": options}, **settings)

    return make


def downloads(proxy: FaultyProxy) -> list[str]:
    """The objects that the store was asked for."""
    paths = (request.removeprefix("GET ") for request in proxy.requests if request[:4] == "GET ")
    return [path.rpartition("/")[2] for path in paths if "list-type" not in path]


def cached(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "state/cache").rglob("??/*") if path.is_file()]


@pytest.mark.parametrize("read_only", [True, False])
def test_an_object_is_fetched_once_for_all_runners_of_a_node(
    make: Callable[..., Storage],
    s3: S3Bucket,
    proxy: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
    read_only: bool,
) -> None:
    data = os.urandom(100_000)
    s3.put("in", data)

    def fetch(number: int) -> bytes:
        destination = tmp_path / f"in{number}"
        make().fetch(f"{s3.url}/in", FILE, destination, never, read_only=read_only)
        return destination.read_bytes()

    with ThreadPoolExecutor(10) as runners:
        assert list(runners.map(fetch, range(10))) == [data] * 10
    assert downloads(proxy) == ["in"]


def test_a_version_is_fetched_once_and_the_next_one_again_from_each_store(
    make_storage: Callable[..., Storage], bucket: Bucket, tmp_path: Path, never: threading.Event
) -> None:
    storage, moved = make_storage(**bucket.settings), []
    for data in (b"old!", b"new!"):
        bucket.put("tree/in", data)
        for path in ("tree/in", "tree/in", "tree/"):  # the last lists what lies there
            progress, destination = Progress(), tmp_path / str(len(moved))
            storage.fetch(f"{bucket.url}/{path}", None, destination, never, progress=progress)
            moved.append(progress.moved)
        assert (destination / "in").read_bytes() == data
    assert moved == [4, 0, 0] * 2


def test_a_copy_can_be_written_without_harm_to_the_cache(
    make: Callable[..., Storage], s3: S3Bucket, tmp_path: Path, never: threading.Event
) -> None:
    s3.put("in", b"original")
    make().fetch(f"{s3.url}/in", FILE, tmp_path / "mine", never)
    (tmp_path / "mine").write_bytes(b"changed")
    make().fetch(f"{s3.url}/in", FILE, tmp_path / "yours", never)
    assert (tmp_path / "yours").read_bytes() == b"original"


def test_what_is_fetched_over_a_shared_file_does_not_write_through_it(
    make: Callable[..., Storage], s3: S3Bucket, root: Path, tmp_path: Path, never: threading.Event
) -> None:
    s3.put("in", b"original")
    (root / "local").write_bytes(b"local")
    storage = make()
    for url in (f"{s3.url}/in", str(root / "local")):
        storage.fetch(url, FILE, tmp_path / "in", never, read_only=True)
    assert (tmp_path / "in").read_bytes() == b"local"
    storage.fetch(f"{s3.url}/in", FILE, tmp_path / "again", never)
    assert (tmp_path / "again").read_bytes() == b"original"


def test_the_files_of_a_directory_are_entries_of_their_own(
    make: Callable[..., Storage],
    s3: S3Bucket,
    proxy: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
) -> None:
    s3.put("tree/one", b"1")
    s3.put("tree/sub/two", b"2")
    make().fetch(f"{s3.url}/tree", DIRECTORY, tmp_path / "tree", never, read_only=True)
    make().fetch(f"{s3.url}/tree/sub/two", FILE, tmp_path / "two", never, read_only=True)
    assert sorted(downloads(proxy)) == ["one", "two"]
    assert (tmp_path / "two").samefile(tmp_path / "tree/sub/two")


def test_what_was_used_least_recently_goes_but_never_what_is_in_use(
    make: Callable[..., Storage], s3: S3Bucket, tmp_path: Path, never: threading.Event
) -> None:
    storage = make(cache_size_gb=2_500 / 1e9)
    for name in ("used", "old", "middle", "new"):
        s3.put(name, os.urandom(1_000))
    storage.fetch(f"{s3.url}/used", FILE, tmp_path / "used", never, read_only=True)
    storage.fetch(f"{s3.url}/old", FILE, tmp_path / "x", never)
    storage.fetch(f"{s3.url}/middle", FILE, tmp_path / "x", never)
    storage.fetch(f"{s3.url}/new", FILE, tmp_path / "x", never)

    kept = {path.read_bytes() for path in cached(tmp_path)}
    assert kept == {s3.get("used"), s3.get("new")}


def test_an_object_that_is_larger_than_the_cache_is_not_kept(
    make: Callable[..., Storage], s3: S3Bucket, tmp_path: Path, never: threading.Event
) -> None:
    s3.put("in", b"x" * 2_000)
    make(cache_size_gb=1_000 / 1e9).fetch(f"{s3.url}/in", FILE, tmp_path / "in", never)
    assert (tmp_path / "in").read_bytes() == b"x" * 2_000
    assert cached(tmp_path) == []


def test_a_cache_of_no_size_is_no_cache(
    make: Callable[..., Storage], s3: S3Bucket, tmp_path: Path, never: threading.Event
) -> None:
    s3.put("in", b"x")
    make(cache_size_gb=0).fetch(f"{s3.url}/in", FILE, tmp_path / "in", never, read_only=True)
    assert not (tmp_path / "state/cache").exists()


def test_a_cancel_leaves_no_part_of_an_entry(
    make: Callable[..., Storage], s3: S3Bucket, proxy: FaultyProxy, tmp_path: Path
) -> None:
    s3.put("in", b"x" * 1000)
    stop = threading.Event()
    proxy.faults.extend(["pass", "hang"])
    threading.Thread(target=lambda: proxy.hanging.wait() and stop.set(), daemon=True).start()
    with pytest.raises(Canceled):
        make().fetch(f"{s3.url}/in", FILE, tmp_path / "in", stop)
    assert cached(tmp_path) == []


def test_a_runner_that_is_killed_while_it_fetches_is_in_nobodys_way(
    make: Callable[..., Storage],
    s3: S3Bucket,
    proxy: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
) -> None:
    data = os.urandom(1_000)
    s3.put("in", data)
    proxy.faults.extend(["pass", "hang"])
    sections = {"s3://": s3.options | {"endpoint_url": proxy.url}}
    program = f"""
import threading
from pathlib import Path
from raytes.config import Settings
from raytes.storage import Storage
storage = Storage(Settings(state_dir={str(tmp_path / "state")!r}, storage={sections!r}))
storage.fetch({s3.url + "/in"!r}, None, Path({str(tmp_path / "x")!r}), threading.Event())
"""
    runner = subprocess.Popen([sys.executable, "-c", program])
    assert proxy.hanging.wait(30)
    runner.kill()
    runner.wait()
    assert [path.suffix for path in cached(tmp_path)] == [".part"]

    make().fetch(f"{s3.url}/in", FILE, tmp_path / "in", never)

    assert (tmp_path / "in").read_bytes() == data
    assert [path.read_bytes() for path in cached(tmp_path)] == [data]
