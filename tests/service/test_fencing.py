"""Runners that are killed while outputs are on their way: what they leave, and what comes of it."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from raytes.models import TesState
from tests.images import Images
from tests.service.running import Service
from tests.storage.faulty_proxy import FaultyProxy, faulty_proxy
from tests.storage.object_store import S3Bucket, new_bucket_name
from tests.storage.servers import moto

SIZE = 12_000_000  # bytes: an upload of more than one part


@dataclass
class Bench:
    """A service, and the store that its tasks write to through a proxy."""

    service: Service
    proxy: FaultyProxy
    endpoint: str
    bucket: S3Bucket = field(init=False)
    files: Path = field(init=False)

    def fresh(self) -> "Bench":
        """With an empty bucket and an empty directory."""
        self.bucket = S3Bucket(self.endpoint, new_bucket_name())
        self.files = self.service.files / self.bucket.name
        self.files.mkdir()
        return self

    def submit(self, **resources: object) -> str:
        """Submit a task with a file on this machine and a large object, in this order."""
        return self.service.submit(
            "sh",
            "-c",
            f"echo small > /o/small; head -c {SIZE} /dev/zero > /o/large",
            volumes=["/o"],
            outputs=[
                {"path": "/o/small", "url": str(self.files / "small")},
                {"path": "/o/large", "url": f"{self.bucket.url}/large"},
            ],
            resources=resources,
        )

    def kill_in_upload(self) -> None:
        """Kill the runner when it is about to send a part of the large object."""
        assert self.proxy.hanging.wait(60)
        self.proxy.before_put = lambda path: None
        assert self.bucket.open_uploads()
        assert [name.name for name in self.files.iterdir()] != []
        (runner,) = (pid for pid, line in self.service.processes() if "ray::Runner" in line)
        os.kill(runner, signal.SIGKILL)


@pytest.fixture(scope="module")
def shared(podman_images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with moto() as endpoint, faulty_proxy(endpoint) as proxy:
        options = S3Bucket(endpoint, new_bucket_name()).options | {"endpoint_url": proxy.url}
        service = Service(
            tmp_path_factory.mktemp("fencing") / "state",
            podman_images.busybox,
            RAYTES_NETWORK="none",
            RAYTES_STORAGE=orjson.dumps({"s3://": options}).decode(),
            RAYTES_RETRY_DELAY="0",
        )
        yield Bench(service.start(), proxy, endpoint)
        assert service.stop() == 0


@pytest.fixture
def bench(shared: Bench) -> Bench:
    bench = shared.fresh()
    parts = f"/{bench.bucket.name}/large?"  # of this upload: another may still be removed
    shared.proxy.hanging.clear()
    shared.proxy.before_put = lambda path: "hang" if path.startswith(parts) else None
    return bench


def hidden(directory: Path) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith(".")]


def test_the_attempt_after_a_killed_one_ends_its_upload_and_stores_the_outputs(
    bench: Bench,
) -> None:
    task_id = bench.submit()
    bench.kill_in_upload()
    task = bench.service.finish(task_id)
    assert (task.state, len(task.logs or [])) == (TesState.COMPLETE, 2)
    assert (bench.files / "small").read_text() == "small\n"
    assert len(bench.bucket.get("large") or b"") == SIZE
    assert bench.bucket.open_uploads() == []
    assert hidden(bench.files) == []


def test_what_the_last_attempt_left_is_removed_though_none_comes_after_it(bench: Bench) -> None:
    task_id = bench.submit(backend_parameters={"max_retries": "0"})
    bench.kill_in_upload()
    assert bench.service.finish(task_id).state is TesState.SYSTEM_ERROR
    deadline = time.monotonic() + 60
    while bench.bucket.open_uploads() or hidden(bench.files):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert bench.bucket.keys() == []
    assert os.listdir(bench.files) == []
