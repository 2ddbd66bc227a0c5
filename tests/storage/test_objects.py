"""Files and directories in and out of real object stores."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from raytes.errors import Canceled, InputFailed, OutputFailed
from raytes.models import TesFileType
from raytes.storage import Entry, Storage

from .conftest import AZURITE
from .object_store import AzureContainer, Bucket, S3Bucket, new_bucket_name
from .publishing import publish

FILE, DIRECTORY = TesFileType.FILE, TesFileType.DIRECTORY
MIB = 2**20

ODD_KEYS = [
    "with space.txt",
    "a%20b",
    "100%",
    "a+b",
    "hash#tag",
    "query?versionId=1",
    "star*.txt",
    "[abc].txt",
    "{a,b}",
    "naïve-数据.txt",
    "dots..in..name",
    "quote'\"&<>",
    "~tilde",
]


@pytest.fixture
def storage(make_storage: Callable[..., Storage], bucket: Bucket) -> Storage:
    return make_storage(**bucket.settings)


def entry(path: Path, data: bytes, relative: str = "") -> Entry:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return Entry(relative, path)


@pytest.mark.parametrize("key", ODD_KEYS)
def test_a_key_is_taken_literally_both_ways(
    storage: Storage, bucket: Bucket, tmp_path: Path, never: threading.Event, key: str
) -> None:
    bucket.put("decoy/abc.txt", b"decoy")
    url = f"{bucket.url}/decoy/{key}"

    stored = publish(storage, [entry(tmp_path / "out", b"the bytes")], url, never)
    kind = storage.fetch(url, FILE, tmp_path / "in", never)

    assert bucket.get(f"decoy/{key}") == b"the bytes"
    assert [(one.relative, one.url, one.size_bytes) for one in stored] == [("", url, 9)]
    assert kind is FILE
    assert (tmp_path / "in").read_bytes() == b"the bytes"


@pytest.mark.skipif(not AZURITE, reason="Azurite isn't installed")
def test_az_is_another_name_of_abfs(
    make_storage: Callable[..., Storage],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    never: threading.Event,
) -> None:
    container = AzureContainer(request.getfixturevalue("azure_endpoint"), new_bucket_name())
    (options,) = container.settings["storage"].values()
    storage = make_storage(schemes=("file", "az"), storage={f"az://{container.name}": options})
    url = f"az://{container.name}/a/b"
    publish(storage, [entry(tmp_path / "out", b"data")], url, never)
    assert container.get("a/b") == b"data"
    assert storage.fetch(f"az://{container.name}/a", None, tmp_path / "in", never) is DIRECTORY
    assert files_below(tmp_path / "in") == {"b": b"data"}


def test_what_fsspec_s_filesystems_all_take_may_be_set(
    make_storage: Callable[..., Storage], bucket: Bucket, tmp_path: Path, never: threading.Event
) -> None:
    ((prefix, options),) = bucket.settings["storage"].items()
    options = options | {"use_listings_cache": True, "skip_instance_cache": False}
    bucket.put("in", b"x")
    storage = make_storage(**(bucket.settings | {"storage": {prefix: options}}))
    storage.fetch(f"{bucket.url}/in", FILE, tmp_path / "in", never)
    assert (tmp_path / "in").read_bytes() == b"x"


def test_an_empty_file_stays_an_empty_file(
    storage: Storage, bucket: Bucket, tmp_path: Path, never: threading.Event
) -> None:
    url = f"{bucket.url}/empty"
    publish(storage, [entry(tmp_path / "out", b"")], url, never)
    assert bucket.get("empty") == b""
    assert storage.fetch(url, None, tmp_path / "in", never) is FILE
    assert (tmp_path / "in").read_bytes() == b""


def test_a_shorter_output_leaves_no_old_bytes(
    storage: Storage, bucket: Bucket, tmp_path: Path, never: threading.Event
) -> None:
    bucket.put("out", b"a much longer older object")
    publish(storage, [entry(tmp_path / "out", b"short")], f"{bucket.url}/out", never)
    assert bucket.get("out") == b"short"


def test_a_file_of_many_parts_is_whole(
    storage: Storage, bucket: Bucket, tmp_path: Path, never: threading.Event
) -> None:
    data = os.urandom(40 * MIB) + b"end"
    url = f"{bucket.url}/large"
    publish(storage, [entry(tmp_path / "out", data)], url, never)
    assert storage.fetch(url, FILE, tmp_path / "in", never) is FILE
    assert (tmp_path / "in").read_bytes() == data


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("kind", [DIRECTORY, None])
def test_a_directory_is_what_lies_below_its_url_and_nothing_else(
    storage: Storage,
    bucket: Bucket,
    tmp_path: Path,
    never: threading.Event,
    slash: str,
    kind: TesFileType | None,
) -> None:
    bucket.put("data/a/one.txt", b"1")
    bucket.put("data/a/deep/er/two [x] %20.txt", b"2")
    bucket.put("data/ab/three.txt", b"3")
    bucket.put("data/a.txt", b"4")

    assert storage.fetch(f"{bucket.url}/data/a{slash}", kind, tmp_path / "in", never) is DIRECTORY

    assert files_below(tmp_path / "in") == {
        "one.txt": b"1",
        "deep/er/two [x] %20.txt": b"2",
    }


def test_a_directory_goes_out_with_its_empty_directories_and_comes_back(
    storage: Storage, bucket: Bucket, tmp_path: Path, never: threading.Event
) -> None:
    entries = [
        entry(tmp_path / "1", b"one", "one.txt"),
        entry(tmp_path / "2", b"two", "sub dir/two#.txt"),
        Entry("sub dir/empty", None),
    ]

    stored = publish(storage, entries, f"{bucket.url}/results/", never)
    kind = storage.fetch(f"{bucket.url}/results", DIRECTORY, tmp_path / "in", never)

    assert [(one.relative, one.url) for one in stored] == [
        ("one.txt", f"{bucket.url}/results/one.txt"),
        ("sub dir/two#.txt", f"{bucket.url}/results/sub dir/two#.txt"),
    ]
    assert kind is DIRECTORY
    assert files_below(tmp_path / "in") == {"one.txt": b"one", "sub dir/two#.txt": b"two"}
    assert (tmp_path / "in/sub dir/empty").is_dir()


def test_an_empty_directory_goes_out_and_comes_back(
    storage: Storage, bucket: Bucket, tmp_path: Path, never: threading.Event
) -> None:
    assert publish(storage, [Entry("", None)], f"{bucket.url}/nothing", never) == []
    assert storage.fetch(f"{bucket.url}/nothing", DIRECTORY, tmp_path / "in", never) is DIRECTORY
    assert list((tmp_path / "in").iterdir()) == []


def test_a_directory_output_is_merged_into_what_is_there(
    storage: Storage, bucket: Bucket, tmp_path: Path, never: threading.Event
) -> None:
    bucket.put("results/old.txt", b"old")
    bucket.put("results/both.txt", b"older and longer")
    publish(storage, [entry(tmp_path / "1", b"new", "both.txt")], f"{bucket.url}/results", never)
    assert bucket.get("results/old.txt") == b"old"
    assert bucket.get("results/both.txt") == b"new"


def test_an_object_and_a_directory_of_one_name_are_told_apart_by_the_type(
    storage: Storage, bucket: Bucket, tmp_path: Path, never: threading.Event
) -> None:
    bucket.put("thing", b"object")
    bucket.put("thing/inside", b"inside")
    url = f"{bucket.url}/thing"

    assert storage.fetch(url, FILE, tmp_path / "file", never) is FILE
    assert storage.fetch(url, None, tmp_path / "untold", never) is FILE
    assert storage.fetch(url, DIRECTORY, tmp_path / "tree", never) is DIRECTORY

    assert (tmp_path / "file").read_bytes() == b"object"
    assert files_below(tmp_path / "tree") == {"inside": b"inside"}


def test_a_wrong_type_is_corrected_from_what_is_there(
    storage: Storage, bucket: Bucket, tmp_path: Path, never: threading.Event
) -> None:
    bucket.put("file", b"x")
    bucket.put("tree/file", b"y")
    assert storage.fetch(f"{bucket.url}/file", DIRECTORY, tmp_path / "1", never) is FILE
    assert storage.fetch(f"{bucket.url}/tree", FILE, tmp_path / "2", never) is DIRECTORY


@pytest.mark.parametrize("kind", [FILE, DIRECTORY, None])
@pytest.mark.parametrize("key", ["nothing/here", "nothing/here/"])
def test_an_input_that_is_not_there_is_named_and_final(
    storage: Storage,
    bucket: Bucket,
    tmp_path: Path,
    never: threading.Event,
    kind: TesFileType | None,
    key: str,
) -> None:
    bucket.put("nothing/hereabouts", b"")
    with pytest.raises(InputFailed, match=f"{bucket.url}/{key}.*doesn't exist") as failed:
        storage.fetch(f"{bucket.url}/{key}", kind, tmp_path / "in", never)
    assert not failed.value.transient


@pytest.mark.parametrize("key", ["../evil", "a/../../evil", "./a"])
def test_a_key_that_would_leave_the_directory_is_refused(
    make_storage: Callable[..., Storage],
    s3: S3Bucket,
    tmp_path: Path,
    never: threading.Event,
    key: str,
) -> None:
    s3.put("tree/good", b"")
    s3.put(f"tree/{key}", b"evil")
    with pytest.raises(InputFailed, match="can't be a path"):
        make_storage(**s3.settings).fetch(f"{s3.url}/tree", DIRECTORY, tmp_path / "in", never)
    assert not (tmp_path / "evil").exists()


def test_a_file_output_whose_url_names_a_directory_is_refused(
    storage: Storage, bucket: Bucket, tmp_path: Path, never: threading.Event
) -> None:
    with pytest.raises(OutputFailed, match="names a directory"):
        publish(storage, [entry(tmp_path / "out", b"x")], f"{bucket.url}/out/", never)
    assert bucket.keys() == []


def test_a_listing_of_several_pages_is_read_to_its_end(
    make_storage: Callable[..., Storage],
    s3: S3Bucket,
    tmp_path: Path,
    never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "100")  # on a page
    storage = make_storage(**s3.settings)
    entries = [
        entry(tmp_path / f"out/{number}", str(number).encode(), f"{number % 7}/{number}")
        for number in range(250)
    ]
    stored = publish(storage, entries, f"{s3.url}/many", never)
    storage.fetch(f"{s3.url}/many", DIRECTORY, tmp_path / "in", never)
    assert [one.relative for one in stored] == [one.relative for one in entries]
    assert files_below(tmp_path / "in") == {
        one.relative: one.source.read_bytes() for one in entries if one.source
    }


def test_a_name_that_is_not_unicode_is_refused_by_name(
    storage: Storage, bucket: Bucket, tmp_path: Path, never: threading.Event
) -> None:
    odd = entry(tmp_path / "out", b"x", "latin-\udce9")
    with pytest.raises(OutputFailed, match="not valid Unicode"):
        publish(storage, [odd], f"{bucket.url}/out", never)


def test_a_bucket_that_does_not_exist_is_named(
    make_storage: Callable[..., Storage], s3: S3Bucket, tmp_path: Path, never: threading.Event
) -> None:
    storage = make_storage(**s3.settings)
    with pytest.raises(OutputFailed, match=r"s3://no-such-bucket/out.*bucket doesn't exist"):
        publish(storage, [entry(tmp_path / "out", b"x")], "s3://no-such-bucket/out", never)


def test_sections_for_prefixes_choose_the_store(
    make_storage: Callable[..., Storage], s3: S3Bucket, tmp_path: Path, never: threading.Event
) -> None:
    s3.put("data/a/file", b"x")
    s3.put("data/ab/file", b"y")
    # The section for data/a leads to a server that isn't there.
    nowhere = s3.options | {"endpoint_url": "http://127.0.0.1:1", "secret": "another-secret"}
    storage = make_storage(storage={s3.url: s3.options, f"{s3.url}/data/a": nowhere})
    storage.fetch(f"{s3.url}/data/ab/file", FILE, tmp_path / "in", never)
    assert (tmp_path / "in").read_bytes() == b"y"


def test_a_cancel_ends_a_transfer_and_leaves_no_upload_behind(
    make_storage: Callable[..., Storage], s3: S3Bucket, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(400 * MIB)
    stop = threading.Event()
    seen = threading.Event()

    def cancel_when_it_has_begun() -> None:
        while not s3.open_uploads():
            pass
        seen.set()
        stop.set()

    canceler = threading.Thread(target=cancel_when_it_has_begun, daemon=True)
    canceler.start()
    with pytest.raises(Canceled):
        publish(make_storage(**s3.settings), [Entry("", large)], f"{s3.url}/large", stop)
    assert seen.is_set()
    assert s3.open_uploads() == []
    assert s3.keys() == []


def files_below(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_an_s3_url_may_name_its_server_where_a_section_is_called_after_it(
    make_storage: Callable[..., Storage], s3: S3Bucket, tmp_path: Path, never: threading.Event
) -> None:
    endpoint = s3.options["endpoint_url"].removeprefix("http://")
    storage = make_storage(storage={f"s3://{endpoint}": s3.options})
    url = f"s3://{endpoint}/{s3.name}"

    entries = [entry(tmp_path / "out", b"1", "a/one"), entry(tmp_path / "too", b"2", "two")]
    stored = publish(storage, entries, f"{url}/tree", never)
    storage.fetch(f"{url}/tree", None, tmp_path / "in", never)

    assert s3.get("tree/a/one") == b"1"
    assert [one.url for one in stored] == [f"{url}/tree/a/one", f"{url}/tree/two"]
    assert files_below(tmp_path / "in") == {"a/one": b"1", "two": b"2"}


def test_what_was_stored_is_told_in_the_order_of_the_output(
    s3: S3Bucket, make_storage: Callable[..., Storage], tmp_path: Path, never: threading.Event
) -> None:
    sizes = [12_000_000, 1, 1, 1]  # the first takes longest
    entries = [entry(tmp_path / str(i), bytes(size), str(i)) for i, size in enumerate(sizes)]
    stored = publish(make_storage(**s3.settings), entries, f"{s3.url}/out", never)
    assert [one.relative for one in stored] == ["0", "1", "2", "3"]
