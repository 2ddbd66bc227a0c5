"""The same against SeaweedFS, an S3 server that people run."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from raytes.errors import Canceled, InputFailed
from raytes.models import TesFileType
from raytes.storage import Entry, Storage

from .object_store import S3Bucket, new_bucket_name
from .publishing import publish
from .seaweedfs import KEY, SECRET
from .test_objects import ODD_KEYS, entry, files_below

pytestmark = pytest.mark.slow

FILE, DIRECTORY = TesFileType.FILE, TesFileType.DIRECTORY
MIB = 2**20


@pytest.fixture
def weed(seaweedfs_endpoint: str) -> S3Bucket:
    return S3Bucket(seaweedfs_endpoint, new_bucket_name(), key=KEY, secret=SECRET)


@pytest.fixture
def storage(make_storage: Callable[..., Storage], weed: S3Bucket) -> Storage:
    return make_storage(**weed.settings)


def test_a_tree_with_odd_names_goes_out_and_comes_back(
    storage: Storage, weed: S3Bucket, tmp_path: Path, never: threading.Event
) -> None:
    entries = [
        entry(tmp_path / f"out/{number}", str(number).encode(), f"sub dir/{key}")
        for number, key in enumerate(ODD_KEYS)
    ]
    entries += [entry(tmp_path / "out/empty", b"", "empty"), Entry("no/thing", None)]
    publish(storage, entries, f"{weed.url}/tree", never)
    storage.fetch(f"{weed.url}/tree/", None, tmp_path / "in", never)
    assert files_below(tmp_path / "in") == {
        one.relative: one.source.read_bytes() for one in entries if one.source
    }
    assert (tmp_path / "in/no/thing").is_dir()


def test_a_large_file_goes_out_and_comes_back(
    storage: Storage, weed: S3Bucket, tmp_path: Path, never: threading.Event
) -> None:
    data = os.urandom(200 * MIB) + b"end"
    publish(storage, [entry(tmp_path / "out", data)], f"{weed.url}/large", never)
    assert storage.fetch(f"{weed.url}/large", FILE, tmp_path / "in", never) is FILE
    assert (tmp_path / "in").read_bytes() == data


def test_thousands_of_small_files_come_whole(
    storage: Storage, weed: S3Bucket, tmp_path: Path, never: threading.Event
) -> None:
    entries = [
        entry(tmp_path / f"out/{number}", b"x" * 10_000, f"{number}") for number in range(2000)
    ]
    publish(storage, entries, f"{weed.url}/many", never)
    storage.fetch(f"{weed.url}/many", DIRECTORY, tmp_path / "in", never)
    assert len(files_below(tmp_path / "in")) == 2000


def test_what_is_not_there_or_not_ours_is_said(
    storage: Storage,
    weed: S3Bucket,
    make_storage: Callable[..., Storage],
    tmp_path: Path,
    never: threading.Event,
) -> None:
    weed.put("in", b"x")
    with pytest.raises(InputFailed, match="doesn't exist"):
        storage.fetch(f"{weed.url}/none", DIRECTORY, tmp_path / "in", never)
    stranger = make_storage(storage={"s3://": weed.options | {"secret": "not-the-secret"}})
    with pytest.raises(InputFailed, match="403"):
        stranger.fetch(f"{weed.url}/in", FILE, tmp_path / "in", never)


def test_a_cancel_leaves_no_upload_behind(storage: Storage, weed: S3Bucket, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1000 * MIB)
    stop = threading.Event()

    def cancel_when_it_has_begun() -> None:
        while not weed.open_uploads():
            pass
        stop.set()

    threading.Thread(target=cancel_when_it_has_begun, daemon=True).start()
    with pytest.raises(Canceled):
        publish(storage, [Entry("", large)], f"{weed.url}/large", stop)
    assert weed.open_uploads() == []
