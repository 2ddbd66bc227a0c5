"""A lot of data through a task: from an S3 store, through a container, and back."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raytes.models import TesState
from tests.runner.conftest import Attempt, Bench
from tests.storage.object_store import S3Bucket, new_bucket_name
from tests.storage.seaweedfs import KEY, SECRET, seaweedfs

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


def run(bench: Bench, bucket: S3Bucket, script: str, **task: Any) -> Attempt:
    return bench.run({"executors": [bench.executor(script)], **task}, **bucket.settings)


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


def test_two_thousand_small_files_come_and_go_with_their_names(
    bench: Bench, bucket: S3Bucket
) -> None:
    files = {
        f"{number % 20}/{number} {NAMES[number % len(NAMES)]}": str(number).encode()
        for number in range(2000)
    }
    for name, data in files.items():
        bucket.put(f"tree/{name}", data)
    bucket.put("tree-beside/another", b"not this one")

    attempt = run(
        bench,
        bucket,
        "find /in -type f | wc -l; cp -r /in/. /out/",
        inputs=[{"url": f"{bucket.url}/tree", "path": "/in", "type": "DIRECTORY"}],
        outputs=[{"url": f"{bucket.url}/copy", "path": "/out", "type": "DIRECTORY"}],
    )

    assert attempt.state is TesState.COMPLETE, attempt.system_logs
    assert attempt.stdout() == "2000\n"
    assert len(attempt.log.outputs) == 2000
    keys = [key for key in bucket.keys() if key.startswith("copy/")]  # noqa: SIM118
    assert sorted(keys) == sorted(f"copy/{name}" for name in files)
    sample = list(files)[:: len(files) // 50]
    assert {name: bucket.get(f"copy/{name}") for name in sample} == {
        name: files[name] for name in sample
    }
