"""Store and dispatch by themselves: tasks a second without an engine, memory with a million.

`python -m benchmarks.dispatch FILLED` measures on a Ray of its own, and prints the results as JSON;
FILLED is the state directory of a service with a million queued tasks.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import ray

from benchmarks.null_engine import NullRunner
from benchmarks.result import Result, median
from benchmarks.service import descendants
from raytes import ids
from raytes.config import Settings
from raytes.dispatch.shape import Shape
from raytes.models import TesExecutor, TesTask
from raytes.moment import now
from raytes.runner.actor import Runner
from raytes.store.actor import Identity, replace
from raytes.store.database import database_of, prepare
from raytes.store.documents import NewTask, split_document
from raytes.store.pages import Filters
from raytes.store.reader import Reader
from raytes.surroundings import runtime_directory
from raytes.views import View

_RUNNERS = 16
_TASKS = 3_000
_ROUNDS = 3
_MB = 2**20
_SHAPE = Shape(cpus=1, memory=100 * _MB)


def measure(filled: Path) -> list[Result]:
    """All measures of this module, in a process of their own: Ray is there once in each."""
    command = [sys.executable, "-m", "benchmarks.dispatch", str(filled)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found = done.stdout.splitlines()[-1]  # behind what Ray may have to say
    return [Result(**fields) for fields in orjson.loads(found)]


def _measure(filled: Path) -> list[Result]:
    with tempfile.TemporaryDirectory() as directory, _own_ray():
        empty = Settings(state_dir=Path(directory))
        return [_null_engine(empty), _memory(empty, _holding_still(filled))]


@contextlib.contextmanager
def _own_ray() -> Iterator[None]:
    ray.init(
        address="local",
        namespace="raytes",
        num_cpus=_RUNNERS,
        object_store_memory=100 * _MB,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()


@contextlib.contextmanager
def _store(settings: Settings, runner: type = Runner) -> Iterator[Any]:
    node = ray.get_runtime_context().get_node_id()
    prepare(database_of(settings))
    with runtime_directory(settings):
        store = replace(settings, Identity("benchmark", node), runner)
        ray.get(store.ready.remote(patience_s=60.0))
        yield store
        ray.get(store.stop.remote())
        ray.kill(store)


def _null_engine(settings: Settings) -> Result:
    with _store(settings, NullRunner) as store:
        reader = Reader(database_of(settings))
        _drained(store, reader, 20 * _RUNNERS)  # brings the runners up
        rate = median([_drained(store, reader, _TASKS) for _ in range(_ROUNDS)])
        reader.close()
    return Result(
        f"tasks a second without an engine, {_RUNNERS} warm runners",
        rate,
        300.0,
        "more",
        f"{rate:.0f}/s",
    )


def _drained(store: Any, reader: Reader, count: int) -> float:
    """Tasks a second, from the first create to the last end."""
    tasks = [_task() for _ in range(count)]
    start = time.perf_counter()
    for first in range(0, count, 64):
        ray.get(store.create.remote(tasks[first : first + 64]))
    for state in ("QUEUED", "INITIALIZING", "RUNNING"):
        while orjson.loads(reader.page(Filters(state=state), 1, None, View.MINIMAL))["tasks"]:
            time.sleep(0.02)
    return count / (time.perf_counter() - start)


def _task() -> NewTask:
    task = TesTask(executors=[TesExecutor(image="none", command=["true"])])
    document, contents = split_document(task)
    return NewTask(ids.mint(), "", None, now(), _SHAPE.key(), document, contents)


def _holding_still(filled: Path) -> Settings:
    """Settings of a service whose tasks wait for a node that doesn't come."""
    return Settings(state_dir=filled, infeasible_grace=3_600)


def _memory(empty: Settings, filled: Settings) -> Result:
    before, after = _resident(empty), _resident(filled)
    return Result(
        "memory of the store with a million queued (MB more)",
        (after - before) / _MB,
        300.0,
        "less",
        f"{after / _MB:.0f} MB",
        f"{before / _MB:.0f} MB with none",
    )


def _resident(settings: Settings) -> int:
    """Bytes of the store's memory, once it has taken up its tasks."""
    with _store(settings):
        time.sleep(5)
        [store] = [pid for pid in descendants(os.getpid()) if "ray::Store" in _command(pid)]
        pages = int(Path(f"/proc/{store}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


if __name__ == "__main__":
    found = _measure(Path(sys.argv[1]))
    sys.stdout.buffer.write(orjson.dumps([asdict(result) for result in found]))
