"""What happens when a store doesn't do what it is asked."""

import errno
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import requests
from aiohttp import ClientTimeout
from azure.core.exceptions import HttpResponseError
from azure.storage.blob.aio import BlobClient
from gcsfs.retry import HttpError
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError

from raytes import __version__
from raytes.errors import Canceled, InputFailed, OutputFailed
from raytes.models import TesFileType
from raytes.storage import Entry, Storage, azure, faults, ftp, gcs, retry, sftp, web
from raytes.storage import s3 as s3_module
from tests.scripted_server import DROPPED, Reply, scripted_server

from .conftest import AZURITE
from .faulty_proxy import FaultyProxy, faulty_proxy
from .object_store import AzureContainer, Bucket, GcsBucket, S3Bucket, new_bucket_name
from .publishing import publish
from .seaweedfs import KEY, PUBLIC, SECRET

FILE, DIRECTORY = TesFileType.FILE, TesFileType.DIRECTORY
LARGE = os.urandom(20 * 2**20)  # several ranges
needs_azurite = pytest.mark.skipif(not AZURITE, reason="Azurite isn't installed")


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.001)


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def storage(make_storage: Callable[..., Storage], s3: S3Bucket, proxy: FaultyProxy) -> Storage:
    return make_storage(storage={"s3://": s3.options | {"endpoint_url": proxy.url}})


@pytest.fixture(params=["s3", "gs", "http", *(["abfs"] if AZURITE else [])])
def proxied(request: pytest.FixtureRequest) -> Iterator[tuple[FaultyProxy, Bucket]]:
    """Each kind of store behind a proxy."""
    names = {"s3": "s3_endpoint", "gs": "gcs_endpoint", "abfs": "azure_endpoint"}
    upstream = names.get(request.param) and request.getfixturevalue(names[request.param])
    with faulty_proxy(upstream) as proxy:
        if request.param == "http":
            yield proxy, WebDirectory(proxy)
            return
        if request.param == "abfs":
            yield proxy, AzureContainer(proxy.url, new_bucket_name())
            return
        bucket = {"s3": S3Bucket, "gs": GcsBucket}[request.param](upstream, new_bucket_name())
        for section in bucket.settings["storage"].values():
            section["endpoint_url"] = proxy.url
        yield proxy, bucket


class WebDirectory:
    """Files of the proxy itself, as a bucket."""

    def __init__(self, proxy: FaultyProxy) -> None:
        self._proxy = proxy
        self.url = proxy.url
        self.settings: dict[str, Any] = {"schemes": ("http",), "storage": {proxy.url: {}}}

    def put(self, key: str, data: bytes) -> None:
        self._proxy.files[f"/{key}"] = data

    def get(self, key: str) -> bytes | None:
        return self._proxy.files.get(f"/{key}")

    def keys(self) -> list[str]:
        return list(self._proxy.files)


@pytest.mark.parametrize("fault", [500, 503, 429, "reset", "truncate"])
def test_a_download_gets_over_a_passing_fault(
    storage: Storage,
    s3: S3Bucket,
    proxy: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
    fault: int | str,
) -> None:
    s3.put("in", LARGE)
    proxy.faults.extend([fault, fault, fault])
    assert storage.fetch(f"{s3.url}/in", FILE, tmp_path / "in", never) is FILE
    assert (tmp_path / "in").read_bytes() == LARGE
    assert not proxy.faults


@pytest.mark.parametrize("fault", [502, 503, "short", "long"])
def test_what_passes_is_tried_again_of_each_store(
    make_storage: Callable[..., Storage],
    proxied: tuple[FaultyProxy, Bucket],
    tmp_path: Path,
    never: threading.Event,
    fault: int | str,
) -> None:
    proxy, bucket = proxied
    bucket.put("in", b"data")
    storage = make_storage(**bucket.settings)
    proxy.faults.extend(["pass", fault])
    storage.fetch(f"{bucket.url}/in", FILE, tmp_path / "in", never)
    assert (tmp_path / "in").read_bytes() == b"data"
    assert not proxy.faults


@pytest.mark.slow
def test_what_comes_slowly_comes_whole(
    make_storage: Callable[..., Storage],
    proxied: tuple[FaultyProxy, Bucket],
    tmp_path: Path,
    never: threading.Event,
    impatience: float,
) -> None:
    proxy, bucket = proxied
    data = os.urandom(100_000)
    bucket.put("in", data)
    storage = make_storage(**bucket.settings)
    proxy.drip_pause = impatience / 4
    proxy.faults.extend(["pass", *["drip"] * 100])  # whatever is tried again takes as long
    storage.fetch(f"{bucket.url}/in", FILE, tmp_path / "in", never)
    assert (tmp_path / "in").read_bytes() == data


@pytest.mark.parametrize(
    ("store", "kind", "algorithm"),
    [
        ("gcs", GcsBucket, "CRC32C"),
        pytest.param("azure", AzureContainer, "MD5", marks=needs_azurite),
    ],
)
def test_bytes_that_changed_on_the_way_are_noticed_by_the_checksum_of_the_store(
    make_storage: Callable[..., Storage],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    never: threading.Event,
    store: str,
    kind: Callable[[str, str], Bucket],
    algorithm: str,
) -> None:
    with faulty_proxy(request.getfixturevalue(f"{store}_endpoint")) as proxy:
        bucket = kind(proxy.url, new_bucket_name())
        bucket.put("in", b"data")
        storage = make_storage(**bucket.settings)
        proxy.faults.extend(["", "corrupt"])
        with pytest.raises(InputFailed, match=algorithm) as failed:
            storage.fetch(f"{bucket.url}/in", FILE, tmp_path / "in", never)
        assert failed.value.transient
        assert not proxy.faults
        storage.fetch(f"{bucket.url}/in", FILE, tmp_path / "in", never)
    assert (tmp_path / "in").read_bytes() == b"data"


@pytest.mark.parametrize("algorithm", ["CRC64NVME", "CRC32C", "CRC32", "SHA256", "SHA1"])
@pytest.mark.parametrize(
    ("data", "faults"),
    [
        (b"small", ["", "corrupt"]),
        (b"cut and gone on with", ["", "truncate", "corrupt"]),
        (LARGE, ["", "", "corrupt"]),
    ],
)
def test_bytes_that_changed_on_the_way_are_noticed_by_the_checksum_that_s3_keeps(
    storage: Storage,
    s3: S3Bucket,
    proxy: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
    data: bytes,
    faults: list[str],
    algorithm: str,
) -> None:
    s3.put("in", data, ChecksumAlgorithm=algorithm)
    proxy.faults.extend(faults)
    with pytest.raises(InputFailed, match="checksum") as failed:
        storage.fetch(f"{s3.url}/in", FILE, tmp_path / "in", never)
    assert failed.value.transient
    assert not proxy.faults
    storage.fetch(f"{s3.url}/in", FILE, tmp_path / "in", never)
    assert (tmp_path / "in").read_bytes() == data


@pytest.mark.parametrize("fault", [500, 503, 429, "reset"])
@pytest.mark.parametrize("data", [b"small", LARGE])
def test_an_upload_gets_over_a_passing_fault(
    storage: Storage,
    s3: S3Bucket,
    proxy: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
    fault: int | str,
    data: bytes,
) -> None:
    (tmp_path / "out").write_bytes(data)
    proxy.faults.extend([fault, fault, fault])
    publish(storage, [Entry("", tmp_path / "out")], f"{s3.url}/out", never)
    assert s3.get("out") == data
    assert s3.open_uploads() == []


@needs_azurite
def test_of_many_large_files_azure_is_sent_a_few_at_once(
    make_storage: Callable[..., Storage],
    azure_endpoint: str,
    tmp_path: Path,
    never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = most = 0
    upload = BlobClient.upload_blob

    async def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            return await upload(*arguments, **options)
        finally:
            now -= 1

    monkeypatch.setattr(BlobClient, "upload_blob", counted)
    (tmp_path / "out").write_bytes(LARGE[: 2 * 2**20])
    container = AzureContainer(azure_endpoint, new_bucket_name())
    entries = [Entry(str(number), tmp_path / "out") for number in range(12)]
    publish(make_storage(**container.settings), entries, f"{container.url}/out", never)
    assert 0 < most <= 4  # of 12, and of the 16 files that a task moves at once
    assert len(container.keys()) == len(entries)


def test_an_upload_goes_on_after_a_passing_fault_of_each_store(
    make_storage: Callable[..., Storage],
    proxied: tuple[FaultyProxy, Bucket],
    tmp_path: Path,
    never: threading.Event,
) -> None:
    proxy, bucket = proxied
    data = os.urandom(9 * 2**20)
    (tmp_path / "out").write_bytes(data)
    storage = make_storage(**bucket.settings)
    proxy.requests.clear()
    proxy.faults.extend([503, "pass", "reset"])  # in parts, it has begun by the last
    publish(storage, [Entry("", tmp_path / "out")], f"{bucket.url}/out", never)
    proxy.faults.clear()
    assert bucket.get("out") == data
    sessions = [one for one in proxy.requests if "resumable" in one and "upload_id" not in one]
    assert len(sessions) == (2 if bucket.url.startswith("gs:") else 0)


@pytest.mark.parametrize(("store", "kind"), [("s3", S3Bucket), ("gcs", GcsBucket)])
def test_an_output_that_shrinks_while_it_is_stored_is_not_stored_in_part(
    make_storage: Callable[..., Storage],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    never: threading.Event,
    store: str,
    kind: Callable[[str, str], Bucket],
) -> None:
    (tmp_path / "out").write_bytes(bytes(9 * 2**20))  # more than goes in one piece
    with faulty_proxy(request.getfixturevalue(f"{store}_endpoint")) as proxy:
        bucket = kind(proxy.url, new_bucket_name())
        storage = make_storage(**bucket.settings)
        proxy.before_post = lambda path: os.truncate(tmp_path / "out", 2**20)  # it is begun
        with pytest.raises(OutputFailed, match="changed while it was being stored") as failed:
            publish(storage, [Entry("", tmp_path / "out")], f"{bucket.url}/out", never)
        assert failed.value.transient
        assert bucket.keys() == []
        publish(storage, [Entry("", tmp_path / "out")], f"{bucket.url}/out", never)
        assert bucket.get("out") == bytes(2**20)


UPLOAD = ["pass"] * 4  # LARGE's upload is begun, and gets its three parts


def test_an_upload_whose_end_was_not_answered_is_known_by_its_object(
    storage: Storage, s3: S3Bucket, proxy: FaultyProxy, tmp_path: Path, never: threading.Event
) -> None:
    (tmp_path / "out").write_bytes(LARGE)
    proxy.faults.extend([*UPLOAD, "truncate", 404])
    publish(storage, [Entry("", tmp_path / "out")], f"{s3.url}/out", never)
    assert s3.get("out") == LARGE


def test_an_upload_whose_file_is_gone_when_it_is_whole_is_not_left_behind(
    storage: Storage, s3: S3Bucket, proxy: FaultyProxy, tmp_path: Path, never: threading.Event
) -> None:
    (tmp_path / "out").write_bytes(LARGE)
    proxy.before_put = lambda path: (tmp_path / "out").unlink(missing_ok=True)  # open by then
    publish(storage, [Entry("", tmp_path / "out")], f"{s3.url}/out", never)
    assert s3.open_uploads() == []
    assert s3.get("out") == LARGE


def test_an_upload_that_somebody_has_ended_is_not_taken_for_what_was_there_before(
    storage: Storage, s3: S3Bucket, proxy: FaultyProxy, tmp_path: Path, never: threading.Event
) -> None:
    s3.put("out", LARGE[::-1])
    (tmp_path / "out").write_bytes(LARGE)
    proxy.faults.extend([*UPLOAD, 404])
    with pytest.raises(OutputFailed, match="somebody else has ended its upload") as failed:
        publish(storage, [Entry("", tmp_path / "out")], f"{s3.url}/out", never)
    assert failed.value.transient


def test_a_fault_that_stays_is_final_after_some_attempts_and_says_so(
    storage: Storage, s3: S3Bucket, proxy: FaultyProxy, tmp_path: Path, never: threading.Event
) -> None:
    (tmp_path / "out").write_bytes(b"x")
    proxy.faults.extend([503] * 100)
    with pytest.raises(
        OutputFailed, match=rf"{s3.url}/out .*503.* in {retry.ATTEMPTS} attempts"
    ) as failed:
        publish(storage, [Entry("", tmp_path / "out")], f"{s3.url}/out", never)
    assert failed.value.transient
    assert len(proxy.requests) == retry.ATTEMPTS


def test_retries_are_made_in_one_place_for_each_store(
    make_storage: Callable[..., Storage],
    proxied: tuple[FaultyProxy, Bucket],
    tmp_path: Path,
    never: threading.Event,
) -> None:
    proxy, bucket = proxied
    proxy.requests.clear()
    proxy.faults.extend([503] * 100)
    with pytest.raises(InputFailed, match=rf"503.* in {retry.ATTEMPTS} attempts"):
        make_storage(**bucket.settings).fetch(f"{bucket.url}/in", FILE, tmp_path / "in", never)
    asked_twice = bucket.url.startswith("http")  # HEAD, and the first byte
    assert len(proxy.requests) == retry.ATTEMPTS * (2 if asked_twice else 1)


@pytest.mark.parametrize("status", [403, 405])
def test_a_refusal_is_final_at_once(
    storage: Storage,
    s3: S3Bucket,
    proxy: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
    status: int,
) -> None:
    proxy.faults.extend([status] * 100)
    with pytest.raises(InputFailed, match=f"{s3.url}/in .*{status}") as failed:
        storage.fetch(f"{s3.url}/in", FILE, tmp_path / "in", never)
    assert not failed.value.transient
    assert len(proxy.requests) == 1


def test_a_server_that_is_not_there_is_a_passing_cause(
    make_storage: Callable[..., Storage], s3: S3Bucket, tmp_path: Path, never: threading.Event
) -> None:
    storage = make_storage(storage={"s3://": s3.options | {"endpoint_url": "http://127.0.0.1:1"}})
    with pytest.raises(
        InputFailed, match=f"{s3.url}/in .*connection to http://127.0.0.1:1/.* failed"
    ) as failed:
        storage.fetch(f"{s3.url}/in", FILE, tmp_path / "in", never)
    assert failed.value.transient


def test_a_directory_with_one_bad_file_fails_and_names_it(
    storage: Storage, s3: S3Bucket, proxy: FaultyProxy, tmp_path: Path, never: threading.Event
) -> None:
    s3.put("tree/one", b"1")
    s3.put("tree/two", b"2")
    proxy.faults.extend(["pass", 403, 403])
    with pytest.raises(InputFailed, match=r"tree .*(one|two): .*403"):
        storage.fetch(f"{s3.url}/tree", DIRECTORY, tmp_path / "bad", never)


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch, proxied: tuple[FaultyProxy, Bucket]) -> float:
    """The seconds, instead of a minute, that each store is given for its next byte."""
    monkeypatch.setattr(s3_module, "_READ_TIMEOUT", 1)
    monkeypatch.setattr(web, "_TIMEOUT", ClientTimeout(total=None, sock_read=1))
    monkeypatch.setattr(gcs, "_TIMEOUT", ClientTimeout(total=None, sock_read=1))
    if azures := proxied[1].settings["storage"].get("abfs://"):
        azures["read_timeout"] = 1
    return 1


@pytest.mark.usefixtures("impatience")
def test_what_stops_in_the_middle_is_asked_for_again(
    make_storage: Callable[..., Storage],
    proxied: tuple[FaultyProxy, Bucket],
    tmp_path: Path,
    never: threading.Event,
) -> None:
    proxy, bucket = proxied
    data = os.urandom(100_000)
    bucket.put("in", data)
    storage = make_storage(**bucket.settings)
    storage.fetch(f"{bucket.url}/in", FILE, tmp_path / "before", never)  # it is connected
    bucket.put("in", data[::-1])
    proxy.faults.extend(["pass", "stall"])
    storage.fetch(f"{bucket.url}/in", FILE, tmp_path / "in", never)
    assert (tmp_path / "in").read_bytes() == data[::-1]
    assert not proxy.faults


def test_an_object_that_is_replaced_meanwhile_is_not_mixed(
    make_storage: Callable[..., Storage],
    proxied: tuple[FaultyProxy, Bucket],
    tmp_path: Path,
    never: threading.Event,
) -> None:
    proxy, bucket = proxied
    proxy.knows_ranges = True
    bucket.put("in", LARGE)

    def replace(path: str) -> None:
        if "/storage/v1/" not in path or path.startswith("/download"):
            proxy.before_get = lambda path: None
            bucket.put("in", LARGE[::-1])

    proxy.before_get = replace
    storage = make_storage(**bucket.settings)
    with pytest.raises(InputFailed, match="replaced") as failed:
        storage.fetch(f"{bucket.url}/in", FILE, tmp_path / "in", never)
    assert failed.value.transient


def test_a_cancel_ends_a_transfer_that_hangs(
    storage: Storage, s3: S3Bucket, proxy: FaultyProxy, tmp_path: Path
) -> None:
    stop = threading.Event()
    proxy.faults.append("hang")
    threading.Thread(target=lambda: proxy.hanging.wait() and stop.set(), daemon=True).start()
    with pytest.raises(Canceled):
        storage.fetch(f"{s3.url}/in", FILE, tmp_path / "in", stop)


def test_no_message_holds_a_secret(
    make_storage: Callable[..., Storage],
    s3: S3Bucket,
    tmp_path: Path,
    never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAB_SECRET", "from-the-environment")
    (tmp_path / "token").write_text("from-a-file\n")
    bad = "http://from-the-environment.from-a-file.invalid"
    storage = make_storage(
        storage={
            "s3://": s3.options
            | {
                "endpoint_url": bad,
                "secret": {"env": "LAB_SECRET"},
                "token": {"file": str(tmp_path / "token")},
            }
        }
    )
    with pytest.raises(InputFailed) as failed:
        storage.fetch(f"{s3.url}/in-from-a-file", FILE, tmp_path / "in", never)
    assert "from-the-environment" not in str(failed.value)
    assert "from-a-file" not in str(failed.value)


def test_an_option_that_names_a_missing_variable_is_said(
    make_storage: Callable[..., Storage], tmp_path: Path, never: threading.Event
) -> None:
    storage = make_storage(storage={"s3://": {"secret": {"env": "NO_SUCH_VARIABLE"}}})
    with pytest.raises(InputFailed, match="NO_SUCH_VARIABLE"):
        storage.fetch("s3://bucket/in", FILE, tmp_path / "in", never)


def test_missing_credentials_are_said(
    make_storage: Callable[..., Storage],
    s3_endpoint: str,
    tmp_path: Path,
    never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    storage = make_storage(storage={"s3://": {"endpoint_url": s3_endpoint}})
    with pytest.raises(InputFailed, match="no credentials"):
        storage.fetch("s3://bucket/in", FILE, tmp_path / "in", never)


@pytest.mark.parametrize(
    ("options", "signed"),
    [
        ({"anon": True}, None),
        ({"profile": "lab"}, f"Credential={KEY}/"),
        ({"key": KEY, "secret": SECRET, "client_kwargs": {"region_name": "eu-north-1"}},
         "/eu-north-1/s3/aws4_request"),
        # Else the bucket would be a part of the host's name.
        ({"key": KEY, "secret": SECRET, "config_kwargs": {"s3": {"addressing_style": "path"}}},
         f"Credential={KEY}/"),
    ],
    ids=["anonymous", "profile", "region", "path style"],
)  # fmt: skip
def test_the_options_of_s3_reach_the_server_beside_what_raytes_sets(
    make_storage: Callable[..., Storage],
    seaweedfs_endpoint: str,
    tmp_path: Path,
    never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    signed: str | None,
) -> None:
    bucket = PUBLIC if signed is None else new_bucket_name()
    S3Bucket(seaweedfs_endpoint, bucket, key=KEY, secret=SECRET).put("in", b"data")
    profile = f"[lab]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    (tmp_path / "credentials").write_text(profile)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    url = f"s3://{bucket}/in"
    with faulty_proxy(seaweedfs_endpoint) as proxy:
        path_style = "config_kwargs" in options
        endpoint = proxy.url.replace("127.0.0.1", "localhost") if path_style else proxy.url
        storage = make_storage(storage={"s3://": options | {"endpoint_url": endpoint}})
        storage.fetch(url, FILE, tmp_path / "in", never)
        assert (tmp_path / "in").read_bytes() == b"data"
        assert proxy.requests[0] == f"HEAD /{bucket}/in"
        authorization = proxy.headers[0]["Authorization"]
        assert authorization is None if signed is None else signed in authorization
        proxy.requests.clear()
        proxy.faults.extend([503] * 100)
        with pytest.raises(InputFailed, match="503"):
            storage.fetch(url, FILE, tmp_path / "in", never)
        assert len(proxy.requests) == retry.ATTEMPTS


@pytest.mark.parametrize(
    ("config", "told"), [({}, f"raytes/{__version__}"), ({"user_agent": "the lab"}, "the lab")]
)
def test_a_server_of_s3_is_told_who_asks(
    make_storage: Callable[..., Storage],
    s3: S3Bucket,
    proxy: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
    config: dict[str, str],
    told: str,
) -> None:
    s3.put("in", b"data")
    options = s3.options | {"endpoint_url": proxy.url, "config_kwargs": config}
    storage = make_storage(storage={"s3://": options})
    storage.fetch(f"{s3.url}/in", FILE, tmp_path / "in", never)
    assert proxy.headers
    assert all(headers["User-Agent"].startswith(told) for headers in proxy.headers)


def test_who_pays_for_what_is_requested_of_s3_says_so_with_each_request(
    make_storage: Callable[..., Storage],
    s3: S3Bucket,
    proxy: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
) -> None:
    options = s3.options | {"endpoint_url": proxy.url, "requester_pays": True}
    storage = make_storage(storage={"s3://": options})
    (tmp_path / "small").write_bytes(b"x")
    (tmp_path / "large").write_bytes(LARGE)
    entries = [Entry(name, tmp_path / name) for name in ("small", "large")]
    publish(storage, entries, f"{s3.url}/out", never)
    assert storage.fetch(f"{s3.url}/out", None, tmp_path / "in", never) is DIRECTORY
    methods = {request.partition(" ")[0] for request in proxy.requests}
    assert methods == {"HEAD", "GET", "PUT", "POST"}
    assert {headers["x-amz-request-payer"] for headers in proxy.headers} == {"requester"}


@pytest.mark.parametrize(
    ("said", "failure"),
    [("", nullcontext()),
     ("<IsTruncated>true</IsTruncated>", pytest.raises(InputFailed, match="how to go on"))],
    ids=["nothing", "goes on"],
)  # fmt: skip
def test_a_listing_of_s3_that_does_not_say_all_is_whole_or_refused(
    make_storage: Callable[..., Storage],
    tmp_path: Path,
    never: threading.Event,
    said: str,
    failure: AbstractContextManager[Any],
) -> None:
    contents = "<Contents><Key>tree/file</Key><Size>4</Size></Contents>"
    page = f"<ListBucketResult>{contents}{said}</ListBucketResult>"
    with scripted_server() as server:
        server.on("GET", "/bucket", Reply(page, content_type="application/xml"), DROPPED)
        server.on("GET", "/bucket/tree/file", Reply("data"))
        storage = make_storage(storage={"s3://": {"endpoint_url": server.url, "anon": True}})
        with failure:
            storage.fetch("s3://bucket/tree", DIRECTORY, tmp_path / "in", never)
            assert (tmp_path / "in/file").read_bytes() == b"data"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EHOSTUNREACH, "No route to host"), "No route"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "unreachable"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "EOF"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "host"),
    ],
)
@pytest.mark.parametrize("fault_of", [faults.fault_of, ftp._fault_of, sftp._fault_of])
def test_a_network_that_fails_is_a_passing_cause(
    fault_of: Callable[[Exception], faults.Fault], error: OSError, words: str
) -> None:
    fault = fault_of(error)
    assert fault.passing
    assert words in str(fault)


@pytest.mark.parametrize(
    ("number", "of_node"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False)]
)
def test_a_disk_that_fails_may_do_it_elsewhere(number: int, *, of_node: bool) -> None:
    fault = faults.fault_of(OSError(number, os.strerror(number)))
    assert (fault.passing, fault.transient, fault.of_node) == (False, True, of_node)


@pytest.mark.parametrize(
    "error",
    [
        RefreshError("the metadata server is unavailable"),
        TransportError("no route"),
        requests.exceptions.ConnectionError("refused"),
        requests.exceptions.ReadTimeout("slow"),
        requests.exceptions.ChunkedEncodingError("cut"),
        requests.exceptions.ProxyError(),
        HttpError({"code": 401, "message": "Invalid Credentials"}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_gcsfs_would_try_again_is_a_passing_cause(error: Exception) -> None:
    assert gcs._fault_of(error).passing


@pytest.mark.parametrize(
    "error",
    [
        DefaultCredentialsError("none"),
        HttpError({"code": 401, "message": "Anonymous caller does not have access"}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_google_refuses_is_final(error: Exception) -> None:
    assert not gcs._fault_of(error).transient


def test_an_answer_of_azure_that_breaks_off_is_a_passing_cause() -> None:
    assert azure._fault_of(HttpResponseError("Response payload is not completed")).passing
