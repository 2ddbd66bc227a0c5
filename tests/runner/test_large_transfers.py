"""A lot of data through a task: from each kind of store, through a container, and back."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from raytes.models import TesState
from tests.runner.conftest import Attempt, Bench
from tests.storage.file_servers import SSHD, ftp_server, sftp_server
from tests.storage.object_store import (
    AzureContainer,
    Bucket,
    GcsBucket,
    S3Bucket,
    new_bucket_name,
)
from tests.storage.seaweedfs import KEY, SECRET, seaweedfs
from tests.storage.servers import AZURITE, azurite, fake_gcs
from tests.storage.test_objects import files_below

pytestmark = pytest.mark.slow

PIECE = 10**6  # bytes
NAMES = ["with space", "a%20b", "100%", "a+b", "hash#tag", "star*", "[x]", "naïve-数据", "-dash"]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("seaweedfs")
    with seaweedfs(directory) as url:
        yield url
    shutil.rmtree(directory)


@pytest.fixture
def bucket(endpoint: str) -> S3Bucket:
    return S3Bucket(endpoint, new_bucket_name(), key=KEY, secret=SECRET)


def run(bench: Bench, place: "Bucket | Place", script: str, **task: Any) -> Attempt:
    return bench.run({"executors": [bench.executor(script)], **task}, **place.settings)


def test_an_object_of_a_gigabyte_comes_and_goes_unchanged(
    bench: Bench, bucket: S3Bucket, tmp_path: Path
) -> None:
    whole = hashlib.sha256()
    with (tmp_path / "large").open("wb") as file:
        for _ in range(1000):
            piece = os.urandom(PIECE)
            file.write(piece)
            whole.update(piece)
    bucket.client.upload_file(str(tmp_path / "large"), bucket.name, "large")

    attempt = run(
        bench,
        bucket,
        "sha256sum < /in/large; cp /in/large /out/large",
        inputs=[{"url": f"{bucket.url}/large", "path": "/in/large"}],
        outputs=[{"url": f"{bucket.url}/copy", "path": "/out/large"}],
    )

    assert attempt.state is TesState.COMPLETE, attempt.system_logs
    assert attempt.stdout().split()[0] == whole.hexdigest()
    copy = hashlib.sha256()
    for piece in bucket.client.get_object(Bucket=bucket.name, Key="copy")["Body"].iter_chunks():
        copy.update(piece)
    assert copy.hexdigest() == whole.hexdigest()
    assert bucket.open_uploads() == []


@dataclass
class Place:
    """Somewhere on a server, as an ordinary client sees it."""

    url: str
    settings: dict[str, Any]
    put: Callable[[str, bytes], None]
    files: Callable[[], dict[str, bytes]]


def in_bucket(bucket: Bucket) -> Place:
    def files() -> dict[str, bytes]:
        return {key: bucket.get(key) or b"" for key in list(bucket.keys())}

    return Place(bucket.url, bucket.settings, bucket.put, files)


@pytest.fixture(params=["s3", "gs", "abfs", "ftp", "sftp"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    served, own = tmp_path / "served", tmp_path / "own"
    served.mkdir()
    own.mkdir()

    def put(name: str, data: bytes) -> None:
        (served / name).parent.mkdir(parents=True, exist_ok=True)
        (served / name).write_bytes(data)

    match request.param:
        case "s3":
            yield in_bucket(request.getfixturevalue("bucket"))
        case "gs":
            with fake_gcs() as endpoint:
                yield in_bucket(GcsBucket(endpoint, new_bucket_name()))
        case "abfs":
            if not AZURITE:
                pytest.skip("Azurite isn't installed")
            with azurite(own) as endpoint:
                yield in_bucket(AzureContainer(endpoint, new_bucket_name()))
        case "ftp":
            with ftp_server(served) as server:
                yield Place(server.url, server.settings, put, lambda: files_below(served))
        case "sftp":
            if not SSHD.exists():
                pytest.skip("OpenSSH's server is not installed")
            with sftp_server(served, own) as server:
                yield Place(server.url, server.settings, put, lambda: files_below(served))


def test_a_tree_with_much_in_it_comes_and_goes_unchanged_on_each_kind_of_server(
    bench: Bench, place: Place
) -> None:
    count = 2000 if place.url.startswith("s3:") else 200  # the other servers are slow
    files = {f"{n % 7}/{n} {NAMES[n % len(NAMES)]}": str(n).encode() for n in range(count)}
    files |= {"large": os.urandom(50 * PIECE), "empty": b""}
    for name, data in files.items():
        place.put(f"a/{name}", data)
    place.put("ab/another", b"not this one")

    attempt = run(
        bench,
        place,
        "find /in -type f | wc -l; cp -r /in/. /out/; mkdir -p /out/nothing/here",
        inputs=[{"url": f"{place.url}/a", "path": "/in", "type": "DIRECTORY"}],
        outputs=[{"url": f"{place.url}/copy/", "path": "/out", "type": "DIRECTORY"}],
    )
    back = run(
        bench,
        place,
        "cd /in; find nothing; ls -l empty | wc -l",
        inputs=[{"url": f"{place.url}/copy", "path": "/in", "type": "DIRECTORY"}],
    )

    assert attempt.state is TesState.COMPLETE, attempt.system_logs
    assert attempt.stdout() == f"{len(files)}\n"
    assert len(attempt.log.outputs) == len(files)
    copied = {
        name.removeprefix("copy/"): data
        for name, data in place.files().items()
        if name.startswith("copy/") and not name.endswith("/")
    }
    copied.pop("nothing/here", None)  # Azure's sign of an empty directory
    assert copied.keys() == files.keys()
    assert [name for name in files if copied[name] != files[name]] == []
    assert back.stdout() == "nothing\nnothing/here\n1\n"
