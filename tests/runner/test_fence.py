"""An attempt that was given up while it was about to store its outputs, and the one after it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from raytes import ids
from raytes.attempt import Assignment, Receipt
from raytes.config import LocalRoot, Settings
from raytes.models import TesState, TesTask
from raytes.runner.fence import fence_off_all
from raytes.storage import s3
from tests.runner.conftest import Bench
from tests.storage.object_store import S3Bucket, new_bucket_name
from tests.storage.seaweedfs import KEY, SECRET
from tests.storage.test_objects import files_below

MIB = 2**20


@dataclass
class Frozen:
    """The answer of a store that gives an attempt leave; the attempt hears it late."""

    asked: threading.Event = field(default_factory=threading.Event)
    resumed: threading.Event = field(default_factory=threading.Event)
    receipts: list[Receipt] = field(default_factory=list)

    def authorize(self, task_id: str, attempt: int, receipts: Sequence[Receipt]) -> bool:
        if receipts:
            self.receipts += receipts
        else:  # all is staged
            self.asked.set()
            assert self.resumed.wait(60)
        return True


@dataclass
class Place:
    """Where the tasks' outputs go."""

    url: str
    settings: dict[str, Any]
    files: Callable[[], dict[str, bytes]]  # those that are there now, hidden ones too
    uploads: Callable[[], list[Any]] = list  # that somebody has begun


@pytest.fixture(params=["file", "s3"])
def place(request: pytest.FixtureRequest, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param == "file":
        return Place(str(bench.files), {}, lambda: files_below(bench.files))
    monkeypatch.setattr(s3, "_PART", 5 * MIB)  # the least that S3 takes
    # moto answers 500 where an upload was ended before.
    endpoint = request.getfixturevalue("seaweedfs_endpoint")
    bucket = S3Bucket(endpoint, new_bucket_name(), key=KEY, secret=SECRET)

    def objects() -> dict[str, bytes]:
        return {key: bucket.get(key) or b"" for key in list(bucket.keys())}

    return Place(bucket.url, bucket.settings, objects, bucket.open_uploads)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def task(bench: Bench, place: Place, letter: str) -> dict[str, Any]:
    """Two outputs: a file, and a directory of two."""
    write = "for f in /o/f /o/d/1 /o/d/2; do yes {} | head -c 6000000 > $f; done"
    return {
        "executors": [bench.executor(f"mkdir /o/d; {write.format(letter)}")],
        "volumes": ["/o"],
        "outputs": [
            {"path": "/o/f", "url": f"{place.url}/f"},
            {"path": "/o/d", "url": f"{place.url}/d", "type": "DIRECTORY"},
        ],
    }


def written(letter: str) -> dict[str, str]:
    return dict.fromkeys(("f", "d/1", "d/2"), letter)


def first_letters(place: Place) -> dict[str, str]:
    return {name: data[:1].decode() for name, data in place.files().items()}


def test_a_late_attempt_does_not_replace_the_outputs_of_the_one_after_it(
    bench: Bench, place: Place, threads: ThreadPoolExecutor
) -> None:
    frozen, task_id = Frozen(), ids.mint()
    late = threads.submit(
        bench.run,
        task(bench, place, "a"),
        task_id=task_id,
        authorize=frozen.authorize,
        **place.settings,
    )
    assert frozen.asked.wait(60)

    later = bench.run(
        task(bench, place, "b"),
        task_id=task_id,
        attempt=2,
        receipts=frozen.receipts,
        **place.settings,
    )
    frozen.resumed.set()

    assert later.state is TesState.COMPLETE
    assert late.result().state is TesState.SYSTEM_ERROR
    assert first_letters(place) == written("b")
    assert place.uploads() == []


def test_an_attempt_that_gets_no_leave_leaves_nothing(bench: Bench, place: Place) -> None:
    def refuse(task_id: str, attempt: int, receipts: Sequence[Receipt]) -> bool:
        return bool(receipts)

    attempt = bench.run(task(bench, place, "a"), authorize=refuse, **place.settings)

    assert attempt.state is TesState.CANCELED
    assert (attempt.log.outputs, place.files(), place.uploads()) == ([], {}, [])


def test_nobody_is_asked_about_a_task_without_outputs(bench: Bench) -> None:
    def fail(task_id: str, attempt: int, receipts: Sequence[Receipt]) -> bool:
        raise AssertionError("somebody was asked")

    assert bench.run({"executors": [bench.executor("true")]}, authorize=fail).exit_codes == [0]


def test_an_attempt_does_not_begin_before_the_earlier_ones_are_fenced_off(bench: Bench) -> None:
    nobody = {"storage": {"s3://": {"endpoint_url": "http://127.0.0.1:1", "anon": True}}}
    url = "s3://bucket/out"
    attempt = bench.run(
        {
            "executors": [bench.executor("echo > /o/f")],
            "outputs": [{"path": "/o/f", "url": url}],
        },
        attempt=2,
        receipts=[Receipt(url, "an-upload")],
        **nobody,
    )
    assert (attempt.state, attempt.exit_codes) == (TesState.SYSTEM_ERROR, [])
    assert attempt.last.retry
    assert url in attempt.system_logs


def test_a_missing_output_does_not_keep_the_others_from_being_stored(bench: Bench) -> None:
    attempt = bench.sh(
        "echo log > /o/log",
        outputs=[
            {"path": "/o/missing", "url": str(bench.files / "missing")},
            {"path": "/o/log", "url": str(bench.files / "log")},
        ],
    )
    assert attempt.failure_reason == "missing_output"
    assert files_below(bench.files) == {"log": b"log\n"}


def test_what_receipts_tell_of_is_removed_though_nobody_knows_the_outputs(tmp_path: Path) -> None:
    staged = tmp_path / "tree/.raytes-task-1"
    staged.mkdir(parents=True)
    receipt = Receipt(f"{tmp_path}/tree/out", staged.name)
    unreadable = Assignment("task", 2, TesTask(executors=[]), receipts=(receipt,))
    settings = Settings(state_dir=tmp_path / "state", local_root=[LocalRoot(path=tmp_path)])
    fence_off_all(unreadable, settings)
    assert not staged.exists()
