"""Data in and out beside the ordinary clients of the same server: `python -m benchmarks.storage`.

Each pair of figures is from the same run, in turns, the best of a few; what counts is their
ratio. The server, an S3 store in files, is on the same machine and shares its cores.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import boto3
from s3fs import S3FileSystem

from benchmarks.result import Result, median
from benchmarks.service import Service, running
from raytes.config import Settings
from raytes.models import TesFileType, TesState
from raytes.storage import Entry, Storage
from tests.storage.faulty_proxy import faulty_proxy
from tests.storage.publishing import publish
from tests.storage.seaweedfs import KEY, SECRET, seaweedfs

FILE, DIRECTORY = TesFileType.FILE, TesFileType.DIRECTORY
_BUCKET = "measures"
_SMALL = 10_000  # bytes
_NEVER = threading.Event()

Work = Callable[[], object]


class Clients:
    """Ourselves and others, before one bucket, over one directory of scratch."""

    def __init__(self, endpoint: str, scratch: Path) -> None:
        self._scratch = scratch
        self._options = {"endpoint_url": endpoint, "key": KEY, "secret": SECRET}
        self._boto3 = boto3.client(
            "s3", endpoint_url=endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET
        )
        self._boto3.create_bucket(Bucket=_BUCKET)
        self._s3fs = S3FileSystem(**self._options, use_listings_cache=False)
        self._settings: dict[str, Any] = {"storage": {"s3://": self._options}}
        self._storage = Storage(Settings(state_dir=scratch / "state", **self._settings))

    def large_in(self, key: str) -> dict[str, Work]:
        """Ways to fetch one object."""
        to = self._scratch / "in"
        return {
            "raytes": lambda: self._storage.fetch(
                f"s3://{_BUCKET}/{key}", FILE, to, _NEVER, read_only=True
            ),
            "boto3": lambda: self._boto3.download_file(_BUCKET, key, str(to)),
            "s3fs": lambda: self._s3fs.get_file(f"{_BUCKET}/{key}", str(to)),
        }

    def large_out(self, source: Path) -> dict[str, Work]:
        """Ways to store one file."""
        return {
            "raytes": lambda: publish(
                self._storage, [Entry("", source)], f"s3://{_BUCKET}/out-raytes", _NEVER
            ),
            "boto3": lambda: self._boto3.upload_file(str(source), _BUCKET, "out-boto3"),
            "s3fs": lambda: self._s3fs.put_file(str(source), f"{_BUCKET}/out-s3fs"),
        }

    def small_in(self, key: str) -> dict[str, Work]:
        """Ways to fetch a directory."""
        to = self._scratch / "in"
        return {
            "raytes": lambda: self._storage.fetch(
                f"s3://{_BUCKET}/{key}", DIRECTORY, to, _NEVER, read_only=True
            ),
            "s3fs": lambda: self._s3fs.get(f"{_BUCKET}/{key}/", f"{to}/", recursive=True),
        }

    def small_out(self, source: Path) -> dict[str, Work]:
        """Ways to store a directory."""
        entries = [Entry(path.name, path) for path in sorted(source.iterdir())]
        return {
            "raytes": lambda: publish(
                self._storage, entries, f"s3://{_BUCKET}/many-raytes", _NEVER
            ),
            "s3fs": lambda: self._s3fs.put(f"{source}/", f"{_BUCKET}/many-s3fs/", recursive=True),
        }

    def forget(self) -> None:
        """Have what was fetched away, on disk and in the cache."""
        shutil.rmtree(self._scratch / "in", ignore_errors=True)
        (self._scratch / "in").unlink(missing_ok=True)
        shutil.rmtree(self._scratch / "state", ignore_errors=True)


def measure(directory: Path, *, size: int, files: int, rounds: int) -> list[Result]:
    """Objects in and out of a store; `size` is the bytes of a large one."""
    (directory / "weed").mkdir()
    with seaweedfs(directory / "weed") as endpoint:
        clients = Clients(endpoint, directory)
        large, many = _large_file(directory / "large", size), directory / "many"
        _small_files(many, files)
        out = _compared(f"{_words(size)} out", clients.large_out(large), clients, rounds)
        many_out = _compared(f"{files} small files out", clients.small_out(many), clients, rounds)
        return [
            out,
            _compared(f"{_words(size)} in", clients.large_in("out-boto3"), clients, rounds),
            many_out,
            _compared(f"{files} small files in", clients.small_in("many-s3fs"), clients, rounds),
            _memory(endpoint, directory, size),
        ]


def measure_tasks(
    directory: Path, image: str, *, size: int, shared: int, tasks: int
) -> list[Result]:
    """Inputs of tasks: local ones of two sizes, and a remote one that many share."""
    with faulty_proxy() as server:
        server.files["/shared"] = os.urandom(shared)
        settings = {
            "RAYTES_NETWORK": "none",
            "RAYTES_SCHEMES": "file,http",
            "RAYTES_STORAGE": f'{{"{server.url}": {{}}}}',
        }
        with running(directory / "state", **settings) as service:
            local = _local_inputs(service, image, size)
            inputs = [{"url": f"{server.url}/shared", "path": "/in"}]
            _run_all(service, [_task(image, inputs)] * tasks)
        served = sum(request == "GET /shared" for request in server.requests)
    return [
        local,
        Result(
            f"bytes served for {tasks} tasks that share {_words(shared)}",
            served,
            1.0,
            "less",
            f"{_words(served * shared)}",
            _words(shared),
        ),
    ]


def _compared(what: str, ways: dict[str, Work], clients: Clients, rounds: int) -> Result:
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, work in ways.items():
            clients.forget()
            best[name] = min(best[name], _timed(work))
    clients.forget()
    ours = best.pop("raytes")
    name = min(best, key=lambda other: best[other])
    return Result(
        what, best[name] / ours, 0.9, "more", f"{ours:.2f} s", f"{best[name]:.2f} s by {name}"
    )


def _local_inputs(service: Service, image: str, size: int) -> Result:
    files = service.state_dir / "files"
    seconds: dict[int, list[float]] = {1000: [], size: []}
    for length in seconds:
        _large_file(files / str(length), length)
    for _ in range(10):
        for length, found in seconds.items():
            inputs = [{"url": str(files / str(length)), "path": "/in"}]
            found.append(_timed(lambda inputs=inputs: _run_all(service, [_task(image, inputs)])))
    ours, reference = median(seconds[size]), median(seconds[1000])
    return Result(
        f"a task with {_words(size)} of file:// beside 1 kB",
        ours / reference,
        1.2,
        "less",
        f"{ours * 1000:.0f} ms",
        f"{reference * 1000:.0f} ms",
    )


_MOVER = """
import sys, threading
from pathlib import Path
from raytes.config import Settings
from raytes.models import TesFileType
from raytes.storage import Entry, Storage
from tests.storage.publishing import publish

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

endpoint, key, secret, directory = sys.argv[1:]
options = {"endpoint_url": endpoint, "key": key, "secret": secret}
storage = Storage(Settings(state_dir=directory + "/state", storage={"s3://": options}))
never, file = threading.Event(), TesFileType.FILE
tiny = Path(directory, "tiny")
tiny.write_bytes(b"x")
publish(storage, [Entry("", tiny)], "s3://measures/tiny", never)
idle = peak()
large = Path(directory, "moved")
storage.fetch("s3://measures/out-boto3", file, large, never, read_only=True)
publish(storage, [Entry("", large)], "s3://measures/moved", never)
print(peak() - idle)
"""


def _memory(endpoint: str, directory: Path, size: int) -> Result:
    command = [sys.executable, "-c", _MOVER, endpoint, KEY, SECRET, str(directory)]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return Result(
        f"memory to move {_words(size)} in and out, above idle (MB)",
        grown / 1e6,
        150.0,
        "less",
        f"{grown / 1e6:.0f} MB",
    )


def _task(image: str, inputs: Iterable[dict[str, str]]) -> dict[str, Any]:
    executor = {"image": image, "command": ["true"]}
    resources = {"cpu_cores": 1, "ram_gb": 0.128}
    return {"executors": [executor], "inputs": list(inputs), "resources": resources}


def _run_all(service: Service, documents: list[dict[str, Any]]) -> None:
    with service.client as client:
        for state in client.wait(*[client.create(document) for document in documents]).values():
            assert state is TesState.COMPLETE, state


def _large_file(path: Path, size: int) -> Path:
    piece = os.urandom(min(size, 2**20))
    with path.open("wb") as file:
        for start in range(0, size, len(piece)):
            file.write(piece[: size - start])
    return path


def _small_files(directory: Path, count: int) -> None:
    directory.mkdir()
    data = os.urandom(_SMALL)
    for number in range(count):
        (directory / f"{number}.txt").write_bytes(data)


def _timed(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _words(size: int) -> str:
    return f"{size / 10**9:g} GB" if size >= 10**9 else f"{size / 10**6:g} MB"


def main() -> None:
    """Run these measures alone, and print what they found."""
    from benchmarks.table import print_results
    from tests import images

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=10**9, help="bytes of a large object")
    parser.add_argument("--shared", type=int, default=200 * 10**6, help="bytes of a shared one")
    parser.add_argument("--files", type=int, default=2000, help="how many small ones")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    built = images.build()
    images.adapt_podman(built)
    with tempfile.TemporaryDirectory() as directory:
        found = measure(
            Path(directory), size=options.size, files=options.files, rounds=options.rounds
        )
        found += measure_tasks(
            Path(directory), built.busybox, size=options.size, shared=options.shared, tasks=20
        )
    print_results(found)


if __name__ == "__main__":
    main()
