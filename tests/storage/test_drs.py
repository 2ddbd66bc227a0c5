"""Objects by their DRS names."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raytes.errors import ForbiddenURL, InputFailed
from raytes.models import TesFileType
from raytes.storage import Storage, retry
from tests.scripted_server import Reply, Script, scripted_server

from .faulty_proxy import FaultyProxy, faulty_proxy
from .object_store import S3Bucket
from .test_objects import files_below

FILE, DIRECTORY = TesFileType.FILE, TesFileType.DIRECTORY
OBJECTS = "/ga4gh/drs/v1/objects"
SERVER = "drs://data.example.org"


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.001)


@pytest.fixture
def drs() -> Iterator[Script]:
    """A DRS server that says what a test has it say."""
    with scripted_server() as script:
        yield script


@pytest.fixture
def web() -> Iterator[FaultyProxy]:
    """A web server that has the bytes."""
    with faulty_proxy() as server:
        yield server


@pytest.fixture
def storage(
    make_storage: Callable[..., Storage], drs: Script, web: FaultyProxy, s3: S3Bucket
) -> Storage:
    return make_storage(
        schemes=("file", "s3", "http", "drs"),
        storage={
            SERVER: {"endpoint_url": drs.url, "headers": {"Authorization": "Bearer for-drs"}},
            web.url: {},
            "s3://": s3.options,
        },
    )


def document(id: str, data: bytes, *urls: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": id,
        "size": len(data),
        "checksums": [{"type": "sha-256", "checksum": hashlib.sha256(data).hexdigest()}],
        "access_methods": [{"type": "https", "access_url": {"url": url}} for url in urls],
        **fields,
    }


def test_an_object_comes_from_where_its_server_says(
    storage: Storage, drs: Script, s3: S3Bucket, tmp_path: Path, never: threading.Event
) -> None:
    s3.put("key", b"the bytes")
    drs.on("GET", f"{OBJECTS}/one", document("one", b"the bytes", f"{s3.url}/key"))
    assert storage.fetch(f"{SERVER}/one", None, tmp_path / "in", never) is FILE
    assert (tmp_path / "in").read_bytes() == b"the bytes"
    assert {request.headers.get("Authorization") for request in drs.requests} == {"Bearer for-drs"}


def test_an_access_id_is_exchanged_for_a_url_whose_headers_go_along(
    storage: Storage, drs: Script, web: FaultyProxy, tmp_path: Path, never: threading.Event
) -> None:
    web.files["/f"] = b"the bytes"
    methods = [{"type": "https", "access_id": "a/b"}]
    drs.on("GET", f"{OBJECTS}/one", document("one", b"the bytes", access_methods=methods))
    access = {"url": f"{web.url}/f?signature=s", "headers": ["Authorization: Bearer for-this"]}
    drs.on("GET", f"{OBJECTS}/one/access/a%2Fb", access)
    storage.fetch(f"{SERVER}/one", FILE, tmp_path / "in", never)
    assert (tmp_path / "in").read_bytes() == b"the bytes"
    assert {headers["Authorization"] for headers in web.headers} == {"Bearer for-this"}


def test_of_several_ways_the_first_that_may_be_used_is_taken(
    storage: Storage, drs: Script, web: FaultyProxy, tmp_path: Path, never: threading.Event
) -> None:
    web.files["/f"] = b"x"
    ways = ("gs://bucket/f", "file:///etc/passwd", f"{web.url}/f")
    drs.on("GET", f"{OBJECTS}/one", document("one", b"x", *ways))
    storage.fetch(f"{SERVER}/one", FILE, tmp_path / "in", never)
    assert (tmp_path / "in").read_bytes() == b"x"


def test_what_may_not_be_used_may_not_be_used_by_way_of_drs(
    storage: Storage, drs: Script, tmp_path: Path, never: threading.Event
) -> None:
    ways = ("http://169.254.169.254/latest", "http://127.0.0.1:1/x", "file:///etc/passwd")
    drs.on("GET", f"{OBJECTS}/one", document("one", b"x", *ways))
    with pytest.raises(InputFailed, match=r"169\.254\.169\.254 is an address of the node"):
        storage.fetch(f"{SERVER}/one", FILE, tmp_path / "in", never)


@pytest.mark.parametrize("algorithm", ["sha-256", "md5", "SHA-512"])
def test_bytes_with_another_checksum_are_refused(
    storage: Storage, drs: Script, web: FaultyProxy, tmp_path: Path, never: threading.Event,
    algorithm: str,
) -> None:  # fmt: skip
    web.files["/f"] = b"good"
    hexdigest = hashlib.new(algorithm.replace("-", ""), b"good").hexdigest()
    told = document("one", b"good", f"{web.url}/f")
    told["checksums"] = [{"type": algorithm, "checksum": hexdigest.upper()}]
    drs.on("GET", f"{OBJECTS}/one", told)
    storage.fetch(f"{SERVER}/one", FILE, tmp_path / "in", never)

    told["checksums"] = [{"type": algorithm, "checksum": "0" * len(hexdigest)}]
    with pytest.raises(InputFailed, match=rf"checksum \({algorithm.lower()}\)") as failed:
        storage.fetch(f"{SERVER}/one", FILE, tmp_path / "in", never)
    assert failed.value.transient


def test_an_object_is_fetched_once_though_each_url_is_signed_anew(
    storage: Storage, drs: Script, web: FaultyProxy, tmp_path: Path, never: threading.Event
) -> None:
    web.files["/f"] = b"x"
    signed = [document("one", b"x", f"{web.url}/f?signature={number}") for number in range(3)]
    drs.on("GET", f"{OBJECTS}/one", *signed)
    for number in range(3):
        storage.fetch(f"{SERVER}/one", FILE, tmp_path / f"in{number}", never)
    assert len([request for request in web.requests if request.startswith("GET")]) == 1


def test_a_bundle_is_a_directory(
    storage: Storage, drs: Script, web: FaultyProxy, tmp_path: Path, never: threading.Event
) -> None:
    for name in ("one", "two"):
        web.files[f"/{name}"] = name.encode()
        drs.on("GET", f"{OBJECTS}/{name}", document(name, name.encode(), f"{web.url}/{name}"))
    contents = [
        {"name": "first", "id": "one"},
        {"name": "sub", "contents": [{"name": "second", "drs_uri": [f"{SERVER}/two"]}]},
    ]
    drs.on("GET", f"{OBJECTS}/all", {"id": "all", "contents": contents})
    assert storage.fetch(f"{SERVER}/all", None, tmp_path / "in", never) is DIRECTORY
    assert files_below(tmp_path / "in") == {"first": b"one", "sub/second": b"two"}


def test_a_bundle_can_not_reach_out_of_its_directory(
    storage: Storage, drs: Script, tmp_path: Path, never: threading.Event
) -> None:
    drs.on("GET", f"{OBJECTS}/one", document("one", b"x"))
    contents = [{"name": "../../escaped", "id": "one"}]
    drs.on("GET", f"{OBJECTS}/all", {"id": "all", "contents": contents})
    with pytest.raises(InputFailed, match="can't be a path below it"):
        storage.fetch(f"{SERVER}/all", DIRECTORY, tmp_path / "deep/in", never)


def test_what_the_server_does_not_know_is_missing(
    storage: Storage, tmp_path: Path, never: threading.Event
) -> None:
    with pytest.raises(InputFailed, match="doesn't exist"):
        storage.fetch(f"{SERVER}/none", None, tmp_path / "in", never)


def test_a_server_that_refuses_is_quoted(
    storage: Storage, drs: Script, tmp_path: Path, never: threading.Event
) -> None:
    drs.on("GET", f"{OBJECTS}/one", Reply(status=403))
    with pytest.raises(InputFailed, match="403") as error:
        storage.fetch(f"{SERVER}/one", None, tmp_path / "in", never)
    assert not error.value.transient


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (FILE, {"size": "large"}),
        (FILE, {"checksums": [{"checksum": "0"}]}),
        (FILE, {"checksums": 5}),
        (FILE, {"access_methods": 5}),
        (FILE, {"access_methods": ["https"]}),
        (FILE, {"access_methods": [{"access_url": "https://example.org"}]}),
        (FILE, {"access_methods": [{"access_url": {"url": "http://x", "headers": [5]}}]}),
        (FILE, {"access_methods": [{"access_id": "1"}], "id": None}),
        (DIRECTORY, {"access_methods": [], "contents": [{"id": "one"}]}),
        (DIRECTORY, {"access_methods": [], "contents": [5]}),
        (DIRECTORY, {"access_methods": [], "contents": [{"name": "x", "drs_uri": 5}]}),
    ],
)
def test_an_answer_that_is_not_as_drs_has_it_is_the_server_s_fault(
    storage: Storage, drs: Script, web: FaultyProxy, tmp_path: Path, never: threading.Event,
    kind: TesFileType, wrong: dict[str, Any],
) -> None:  # fmt: skip
    told = document("one", b"x", f"{web.url}/f") | wrong
    drs.on("GET", f"{OBJECTS}/one", {name: it for name, it in told.items() if it is not None})
    with pytest.raises(InputFailed, match="the DRS server's answer can't be read"):
        storage.fetch(f"{SERVER}/one", kind, tmp_path / "in", never)


def test_a_drs_name_can_not_be_an_output(storage: Storage, never: threading.Event) -> None:
    assert storage.refusal_of_input(f"{SERVER}/one") is None
    assert "only be read" in (storage.refusal_of_output(f"{SERVER}/one") or "")


def test_a_drs_server_on_the_node_itself_needs_a_section(
    make_storage: Callable[..., Storage], tmp_path: Path, never: threading.Event
) -> None:
    storage = make_storage(schemes=("drs", "https"))
    with pytest.raises(ForbiddenURL, match="an address of the node itself"):
        storage.fetch("drs://127.0.0.1/one", FILE, tmp_path / "in", never)


def test_the_section_of_a_drs_server_is_the_leave_to_ask_it_and_nothing_else(
    make_storage: Callable[..., Storage], drs: Script, tmp_path: Path, never: threading.Event
) -> None:
    host = drs.url.removeprefix("http://")
    storage = make_storage(
        schemes=("drs", "http"), storage={f"drs://{host}": {"endpoint_url": drs.url}}
    )
    drs.on("GET", f"{OBJECTS}/one", document("one", b"x", f"{drs.url}/secret"))
    with pytest.raises(InputFailed, match="an address of the node itself"):
        storage.fetch(f"drs://{host}/one", FILE, tmp_path / "in", never)
    assert drs.sent("GET", f"{OBJECTS}/one")
    assert not drs.sent("GET", "/secret")
    assert storage.refusal_of_input(f"{drs.url}{OBJECTS}/one")
