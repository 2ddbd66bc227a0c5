"""Files over http."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raytes.errors import ForbiddenURL, InputFailed, OutputFailed
from raytes.models import TesFileType
from raytes.storage import Entry, Progress, Storage, ranges, retry, web

from .faulty_proxy import FaultyProxy, faulty_proxy
from .publishing import publish

FILE, DIRECTORY = TesFileType.FILE, TesFileType.DIRECTORY


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.001)


@pytest.fixture
def server() -> Iterator[FaultyProxy]:
    """A web server that gives back what is PUT there."""
    with faulty_proxy() as server:
        yield server


@pytest.fixture
def make(make_storage: Callable[..., Storage]) -> Callable[..., Storage]:
    def make(*sections: str, **settings: object) -> Storage:
        storage = {section: {} for section in sections}
        return make_storage(schemes=["file", "http"], storage=storage, **settings)

    return make


@pytest.fixture
def storage(make: Callable[..., Storage], server: FaultyProxy) -> Storage:
    return make(server.url)


@pytest.fixture
def url(server: FaultyProxy) -> str:
    return f"{server.url}/lab"


@pytest.mark.parametrize("data", [b"", b"small", os.urandom(3 * 2**20)])
@pytest.mark.parametrize("name", ["plain", "with%20space", "a+b", "100%25", "%C3%A9", "a%23b"])
def test_a_file_goes_out_and_comes_back(
    storage: Storage, url: str, tmp_path: Path, never: threading.Event, data: bytes, name: str
) -> None:
    (tmp_path / "out").write_bytes(data)
    stored = publish(storage, [Entry("", tmp_path / "out")], f"{url}/{name}", never)
    assert [(one.url, one.size_bytes) for one in stored] == [(f"{url}/{name}", len(data))]
    assert storage.fetch(f"{url}/{name}", None, tmp_path / "in", never) is FILE
    assert (tmp_path / "in").read_bytes() == data


def test_the_files_of_a_directory_get_urls_below_it(
    storage: Storage, url: str, server: FaultyProxy, tmp_path: Path, never: threading.Event
) -> None:
    (tmp_path / "out").write_bytes(b"x")
    entries = [Entry("sub dir/é#", tmp_path / "out"), Entry("empty", None)]
    stored = publish(storage, entries, f"{url}/tree", never)
    assert [one.url for one in stored] == [f"{url}/tree/sub%20dir/%C3%A9%23"]
    assert server.files["/lab/tree/sub%20dir/%C3%A9%23"] == b"x"


@pytest.mark.parametrize("kind", [FILE, DIRECTORY, None])
def test_an_input_that_is_not_there_fails_with_the_status(
    storage: Storage, url: str, tmp_path: Path, never: threading.Event, kind: TesFileType | None
) -> None:
    with pytest.raises(InputFailed, match=f"{url}/none .*404") as failed:
        storage.fetch(f"{url}/none", kind, tmp_path / "in", never)
    assert not failed.value.transient


@pytest.mark.parametrize("knows_ranges", [True, False])
@pytest.mark.parametrize("size", [0, 1, 3 * ranges.SIZE])
def test_what_is_signed_for_get_only_is_fetched_and_kept_all_the_same(
    storage: Storage,
    url: str,
    server: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
    knows_ranges: bool,
    size: int,
) -> None:
    data = server.files["/lab/in"] = os.urandom(size)
    server.knows_ranges = knows_ranges
    for name in ("first", "second"):
        server.faults.append(403)  # to HEAD
        storage.fetch(f"{url}/in", FILE, tmp_path / name, never)
        assert (tmp_path / name).read_bytes() == data
    first_byte = "bytes=0-0"
    assert ranges_of(server)[0] == first_byte
    assert size == 0 or ranges_of(server)[-1] == first_byte


def test_a_refusal_of_both_head_and_get_says_the_status(
    storage: Storage, url: str, server: FaultyProxy, tmp_path: Path, never: threading.Event
) -> None:
    server.faults.extend([405, 403])
    with pytest.raises(InputFailed, match="403"):
        storage.fetch(f"{url}/in", FILE, tmp_path / "in", never)
    assert server.requests == ["HEAD /lab/in", "GET /lab/in"]


@pytest.mark.parametrize("fault", [503, 429, "reset", "truncate", "end"])
def test_a_download_gets_over_a_passing_fault(
    storage: Storage,
    url: str,
    server: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
    fault: int | str,
) -> None:
    server.files["/lab/in"] = b"x" * 1000
    server.faults.extend(["pass", fault, fault])
    storage.fetch(f"{url}/in", FILE, tmp_path / "in", never)
    assert (tmp_path / "in").read_bytes() == b"x" * 1000
    assert not server.faults


def test_a_size_of_nothing_is_not_believed_of_a_file_that_comes_without_one(
    storage: Storage, url: str, server: FaultyProxy, tmp_path: Path, never: threading.Event
) -> None:
    server.files["/lab/in"] = b"x" * 1000
    server.faults.extend([200, "end"])  # to HEAD that there is nothing; to GET half of it
    storage.fetch(f"{url}/in", FILE, tmp_path / "in", never)
    assert (tmp_path / "in").read_bytes() == b"x" * 500


@pytest.fixture
def ranged(server: FaultyProxy) -> FaultyProxy:
    """The server when it knows ranges and has a file of three of them."""
    server.knows_ranges = True
    server.files["/lab/in"] = os.urandom(2 * ranges.SIZE + 5)
    return server


def ranges_of(server: FaultyProxy) -> list[str | None]:
    """The ranges that were asked for; None: a whole file."""
    requests = zip(server.requests, server.headers, strict=True)
    return [headers["Range"] for request, headers in requests if request.startswith("GET")]


def test_a_large_file_is_fetched_in_ranges_at_once(
    storage: Storage, url: str, ranged: FaultyProxy, tmp_path: Path, never: threading.Event
) -> None:
    ranged.meeting = threading.Barrier(3)
    storage.fetch(f"{url}/in", FILE, tmp_path / "in", never)
    assert (tmp_path / "in").read_bytes() == ranged.files["/lab/in"]
    assert None not in ranges_of(ranged)


@pytest.mark.parametrize("fault", [503, "reset", "truncate"])
def test_a_range_gets_over_a_passing_fault_and_goes_on_where_it_was(
    storage: Storage,
    url: str,
    ranged: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
    fault: int | str,
) -> None:
    ranged.faults.extend(["pass", fault, fault])
    progress = Progress()
    storage.fetch(f"{url}/in", FILE, tmp_path / "in", never, progress=progress)
    assert (tmp_path / "in").read_bytes() == ranged.files["/lab/in"]
    assert progress.moved == len(ranged.files["/lab/in"])
    assert not ranged.faults


def test_a_server_that_answers_with_the_whole_file_is_believed(
    storage: Storage, url: str, ranged: FaultyProxy, tmp_path: Path, never: threading.Event
) -> None:
    def forget() -> None:
        ranged.meeting = None
        ranged.knows_ranges = False

    ranged.meeting = threading.Barrier(3, forget)
    storage.fetch(f"{url}/in", FILE, tmp_path / "in", never)
    assert (tmp_path / "in").read_bytes() == ranged.files["/lab/in"]


def test_a_large_file_that_is_replaced_meanwhile_is_not_mixed(
    storage: Storage, url: str, ranged: FaultyProxy, tmp_path: Path, never: threading.Event
) -> None:
    def replace() -> None:
        ranged.meeting = None
        ranged.files["/lab/in"] = os.urandom(2 * ranges.SIZE + 5)

    ranged.meeting = threading.Barrier(3, replace)
    with pytest.raises(InputFailed, match="replaced") as failed:
        storage.fetch(f"{url}/in", FILE, tmp_path / "in", never)
    assert failed.value.transient


def test_a_refused_upload_fails_with_the_status(
    storage: Storage, url: str, server: FaultyProxy, tmp_path: Path, never: threading.Event
) -> None:
    (tmp_path / "out").write_bytes(b"x")
    server.faults.append(401)
    with pytest.raises(OutputFailed, match="401"):
        publish(storage, [Entry("", tmp_path / "out")], f"{url}/out", never)


@pytest.mark.parametrize("status", [300, 304])
def test_what_is_no_success_and_no_redirect_either_fails_with_the_status(
    storage: Storage,
    url: str,
    server: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
    status: int,
) -> None:
    (tmp_path / "out").write_bytes(b"x")
    server.faults.append(status)
    with pytest.raises(OutputFailed, match=str(status)):
        publish(storage, [Entry("", tmp_path / "out")], f"{url}/out", never)
    server.files["/lab/in"] = b"x"
    for faults in (["pass", status], [status, status]):
        server.faults.extend(faults)
        with pytest.raises(InputFailed, match=str(status)):
            storage.fetch(f"{url}/in", FILE, tmp_path / "in", never)
    server.faults.append(status)  # of the HEAD only
    storage.fetch(f"{url}/in", FILE, tmp_path / "in", never)
    assert (tmp_path / "in").read_bytes() == b"x"


@pytest.mark.parametrize("status", [300, 304])
def test_a_range_that_is_answered_without_success_fails_with_the_status(
    storage: Storage,
    url: str,
    ranged: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
    status: int,
) -> None:
    ranged.faults.extend(["pass", status, status])
    with pytest.raises(InputFailed, match=str(status)):
        storage.fetch(f"{url}/in", FILE, tmp_path / "in", never)


def test_redirects_are_followed_both_ways(
    storage: Storage,
    url: str,
    server: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
) -> None:
    (tmp_path / "out").write_bytes(b"x" * 1000)
    server.faults.append(f"{url}/elsewhere")
    publish(storage, [Entry("", tmp_path / "out")], f"{url}/out", never)
    assert server.files == {"/lab/elsewhere": b"x" * 1000}
    server.faults.extend(["/lab/elsewhere", "pass", "/lab/elsewhere"])
    storage.fetch(f"{url}/in", FILE, tmp_path / "in", never)
    assert (tmp_path / "in").read_bytes() == b"x" * 1000


def test_a_loop_of_redirects_ends(
    storage: Storage, url: str, server: FaultyProxy, tmp_path: Path, never: threading.Event
) -> None:
    server.faults.extend([f"{url}/in"] * 100)
    with pytest.raises(InputFailed, match="redirected"):
        storage.fetch(f"{url}/in", FILE, tmp_path / "in", never)


def test_a_loopback_address_is_refused_at_submission_unless_it_has_a_section(
    make: Callable[..., Storage], server: FaultyProxy
) -> None:
    assert "address of the node" in (make().refusal_of_input(f"{server.url}/x") or "")
    assert "address of the node" in (make().refusal_of_output(f"{server.url}/x") or "")
    assert make(server.url).refusal_of_input(f"{server.url}/x") is None
    assert make(f"{server.url}/a").refusal_of_input(f"{server.url}/b")
    assert make("http://").refusal_of_input(f"{server.url}/x")


def test_a_name_that_leads_to_a_loopback_address_is_refused_at_use(
    make: Callable[..., Storage],
    server: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def resolve(self: object, host: str, port: int, **_: object) -> list[dict[str, object]]:
        assert host == "innocent.example.org"
        address = {"host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}
        return [{"hostname": host, **address}]

    monkeypatch.setattr(web.aiohttp.ThreadedResolver, "resolve", resolve)
    monkeypatch.setattr(web.aiohttp.connector, "DefaultResolver", web.aiohttp.ThreadedResolver)
    url = f"http://innocent.example.org:{server.server_port}/x"
    storage = make()
    assert storage.refusal_of_input(url) is None
    with pytest.raises(ForbiddenURL, match="address of the node"):
        storage.fetch(url, FILE, tmp_path / "in", never)
    assert server.requests == []


@pytest.mark.parametrize(
    "target", ["http://127.1:1/x", "http://169.254.169.254/latest", "file:///etc/passwd"]
)
def test_a_redirect_to_a_forbidden_place_is_refused(
    storage: Storage,
    url: str,
    server: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
    target: str,
) -> None:
    server.faults.append(target)
    with pytest.raises(ForbiddenURL):
        storage.fetch(f"{url}/in", FILE, tmp_path / "in", never)
    assert not (tmp_path / "in").exists()


def test_the_credentials_of_a_section_stay_below_it(
    make_storage: Callable[..., Storage],
    server: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
) -> None:
    server.files["/lab/in"] = b"x"
    sections = {
        server.url: {},
        f"{server.url}/private": {"headers": {"X-Token": "the-token"}},
    }
    storage = make_storage(schemes=["http"], storage=sections)
    redirect = f"{server.url}/lab/in"
    server.faults.extend([redirect, "pass", redirect])
    storage.fetch(f"{server.url}/private/in", FILE, tmp_path / "in", never)
    tokens = [headers.get("X-Token") for headers in server.headers]
    assert tokens == ["the-token", None, "the-token", None]


def test_the_options_of_a_section_are_aiohttp_s_as_a_file_can_hold_them(
    make_storage: Callable[..., Storage],
    server: FaultyProxy,
    tmp_path: Path,
    never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.files["/lab/in"] = b"x"
    monkeypatch.setenv("LAB_PASSWORD", "the-password")
    options = {
        "auth": ["lab", {"env": "LAB_PASSWORD"}],
        "timeout": {"sock_read": 50},
        "cookies": {"flavour": "vanilla"},
        "client_kwargs": {"timeout": 60, "auto_decompress": True, "cookie_jar": None},
        # fsspec's own, which make no difference here.
        "block_size": 5, "encoded": True, "simple_links": True, "use_listings_cache": True,
    }  # fmt: skip
    storage = make_storage(schemes=["http"], storage={server.url: options})
    storage.fetch(f"{server.url}/lab/in", FILE, tmp_path / "in", never)
    told = [(headers["Authorization"], headers["Cookie"]) for headers in server.headers]
    assert set(told) == {("Basic bGFiOnRoZS1wYXNzd29yZA==", "flavour=vanilla")}
    with pytest.raises(InputFailed, match="404") as failed:
        storage.fetch(f"{server.url}/the-password", FILE, tmp_path / "none", never)
    assert "the-password" not in str(failed.value)


def test_a_query_is_sent_and_not_shown(
    storage: Storage, url: str, server: FaultyProxy, tmp_path: Path, never: threading.Event
) -> None:
    with pytest.raises(InputFailed) as failed:
        storage.fetch(f"{url}/none?X-Amz-Signature=abc%2Fdef", FILE, tmp_path / "in", never)
    assert "abc" not in str(failed.value)
    assert server.requests[0].endswith("?X-Amz-Signature=abc%2Fdef")
