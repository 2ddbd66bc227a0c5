"""Stores in which nothing can be staged: late attempts find another version than they saw."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from raytes.errors import Canceled, OutputFailed
from raytes.storage import Entry, Output, Storage, conditional, gcs

from .faulty_proxy import faulty_proxy
from .object_store import Bucket, GcsBucket, S3Bucket, new_bucket_name
from .publishing import publish
from .test_fencing import Attempt
from .test_objects import entry

NEVER = threading.Event()


@pytest.fixture
def storage(make_storage: Callable[..., Storage], bucket: Bucket) -> Storage:
    return make_storage(**bucket.settings)


@pytest.fixture(params=["new", "replacing"])
def url(request: pytest.FixtureRequest, bucket: Bucket) -> str:
    """Of an output that is new, or that an earlier task has stored."""
    if request.param == "replacing":
        bucket.put("out", b"older")
        for number in range(20):
            bucket.put(f"out/{number}", b"older")
    return f"{bucket.url}/out"


def staged(storage: Storage, attempt: Attempt, url: str, entries: list[Entry]) -> Output:
    output = storage.output(url, attempt.authority)
    output.stage(entries, NEVER)
    return output


def a_file(scratch: Path, data: bytes) -> list[Entry]:
    return [entry(scratch / "one/file", data)]


def many_files(scratch: Path, data: bytes) -> list[Entry]:
    return [entry(scratch / f"many/{number}", data, str(number)) for number in range(20)]


@pytest.mark.parametrize("files", [a_file, many_files])
def test_a_late_attempt_does_not_replace_what_a_later_one_has_written(
    storage: Storage,
    bucket: Bucket,
    tmp_path: Path,
    url: str,
    files: Callable[[Path, bytes], list[Entry]],
) -> None:
    early, later = Attempt(1), Attempt(2)
    late = staged(storage, early, url, files(tmp_path / "1", b"early"))
    early.counts = False  # after it was given leave
    staged(storage, later, url, files(tmp_path / "2", b"later")).commit(NEVER)
    with pytest.raises(Canceled):
        late.commit(NEVER)
    written = [f"out/{one.relative}".rstrip("/") for one in files(tmp_path, b"")]
    assert {bucket.get(key) for key in written} == {b"later"}


def test_what_a_late_attempt_wrote_first_is_replaced(
    storage: Storage, bucket: Bucket, tmp_path: Path, url: str
) -> None:
    late = staged(storage, Attempt(1), url, a_file(tmp_path / "1", b"early"))
    later = staged(storage, Attempt(2), url, a_file(tmp_path / "2", b"later"))
    late.commit(NEVER)
    later.commit(NEVER)
    assert bucket.get("out") == b"later"


@pytest.mark.parametrize("seen", ["new", "replacing"])
def test_a_large_object_of_google_s_is_begun_under_the_same_condition(
    gcs_endpoint: str, make_storage: Callable[..., Storage], tmp_path: Path, seen: str
) -> None:
    """Their emulator doesn't look at it, but they do when the last part comes."""
    bucket = GcsBucket(gcs_endpoint, new_bucket_name())
    with faulty_proxy(gcs_endpoint) as proxy:
        options = {"endpoint_url": proxy.url, "token": "anon"}
        storage = make_storage(storage={"gs://": options})
        if seen == "replacing":
            bucket.put("out", b"older")
            proxy.faults.append(412)
        publish(storage, a_file(tmp_path, bytes(2 * gcs._PART)), f"{bucket.url}/out", NEVER)
    begun = [request for request in proxy.requests if "ifGenerationMatch=" in request]
    generations = [request.partition("ifGenerationMatch=")[2] for request in begun]
    assert generations[0] == "0"
    assert (len(generations) == 2 and int(generations[1]) > 0) == (seen == "replacing")
    assert len(bucket.get("out") or b"") == 2 * gcs._PART


def test_what_is_removed_meanwhile_is_written_anew(
    s3: S3Bucket, make_storage: Callable[..., Storage], tmp_path: Path
) -> None:
    for number in range(20):
        s3.put(f"out/{number}", b"older")
    storage = make_storage(**s3.settings)
    output = staged(storage, Attempt(1), f"{s3.url}/out", many_files(tmp_path, b"new"))
    s3.client.delete_object(Bucket=s3.name, Key="out/7")
    output.commit(NEVER)
    assert s3.get("out/7") == b"new"


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([501], id="the server knows no conditions"),
        pytest.param([304], id="it says in a way of its own that there is an object"),
        pytest.param(["pass", 403], id="who may write may not look"),
        pytest.param(["pass", "pass", 403], id="nor write under a condition"),
    ],
)
def test_where_a_condition_can_not_be_had_a_file_is_stored_all_the_same(
    s3: S3Bucket,
    make_storage: Callable[..., Storage],
    tmp_path: Path,
    answers: list[int | str],
) -> None:
    s3.put("out", b"older")
    with faulty_proxy(s3.options["endpoint_url"]) as proxy:
        storage = make_storage(storage={"s3://": s3.options | {"endpoint_url": proxy.url}})
        proxy.faults.extend(answers)
        publish(storage, a_file(tmp_path, b"new"), f"{s3.url}/out", NEVER)
    assert s3.get("out") == b"new"


def test_a_write_whose_answer_was_lost_is_not_taken_for_somebody_else_s(
    s3: S3Bucket, make_storage: Callable[..., Storage], tmp_path: Path
) -> None:
    with faulty_proxy(s3.options["endpoint_url"]) as proxy:
        storage = make_storage(storage={"s3://": s3.options | {"endpoint_url": proxy.url}})
        proxy.faults.append("truncate")
        publish(storage, a_file(tmp_path, b"new"), f"{s3.url}/out", NEVER)
    assert s3.get("out") == b"new"


def test_two_that_write_without_end_are_told_so(
    s3: S3Bucket,
    make_storage: Callable[..., Storage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    s3.put("out", b"older")
    monkeypatch.setattr(conditional, "_TURNS", 1)
    with pytest.raises(OutputFailed, match="others keep replacing it") as failed:
        publish(make_storage(**s3.settings), a_file(tmp_path, b"new"), f"{s3.url}/out", NEVER)
    assert failed.value.transient


@pytest.mark.parametrize("seen", ["new", "unconditional"])
def test_a_server_that_knows_no_such_place_is_not_taken_for_somebody_else(
    s3: S3Bucket, make_storage: Callable[..., Storage], tmp_path: Path, seen: str
) -> None:
    with faulty_proxy(s3.options["endpoint_url"]) as proxy:
        storage = make_storage(storage={"s3://": s3.options | {"endpoint_url": proxy.url}})
        proxy.faults.extend(([501] if seen == "unconditional" else []) + [404] * 100)
        with pytest.raises(OutputFailed, match=r"404 .*endpoint_url") as failed:
            publish(storage, a_file(tmp_path, b"new"), f"{s3.url}/out", NEVER)
    assert not failed.value.transient
    assert len(proxy.requests) <= 3
