"""The API through the running service: HAProxy, Serve, the application, the database."""

import contextlib
import itertools
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest

import raytes
from raytes.parameters import BACKEND_PARAMETERS
from tests.service.running import Service

JsonObject = dict[str, Any]
PROBLEM = "application/problem+json"


def document(service: Service, **fields: Any) -> JsonObject:
    """A task that is never run: no node is so large."""
    resources = {"cpu_cores": 100_000, **fields.pop("resources", {})}
    return {"executors": [service.executor("true")], "resources": resources, **fields}


def create(service: Service, **fields: Any) -> str:
    answer = service.post(orjson.dumps(document(service, **fields)))
    assert answer.status_code == 200, answer.text
    task_id: str = answer.json()["id"]
    return task_id


def listed(service: Service, **query: Any) -> list[str]:
    """The ids on all pages."""
    found: list[str] = []
    token = ""
    while True:
        answer = httpx.get(f"{service.url}/tasks", params={**query, "page_token": token})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += [task["id"] for task in page["tasks"]]
        if not (token := page.get("next_page_token", "")):
            return found


BAR, BAT, EMPTY, BOTH = {"foo": "bar"}, {"foo": "bat"}, {"foo": ""}, {"foo": "bar", "baz": "bat"}
WITH_FOO: list[JsonObject] = [BAR, BAT, EMPTY, BOTH, {"foo": None}]


@pytest.fixture(scope="module")
def tagged(service: Service) -> JsonObject:
    """Tasks by their tags, under a name of their own."""
    return {str(each): create(service, name="tagged", tags=each) for each in [*WITH_FOO, {}]}


# --- methods and headers --------------------------------------------------------------


@pytest.mark.parametrize("path", ["/service-info", "/tasks", "/openapi.json", "/docs"])
def test_head_is_get_without_the_body(service: Service, path: str) -> None:
    get, head = httpx.get(service.url + path), httpx.head(service.url + path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    # HAProxy ends a connection whenever it has been given a new configuration.
    assert head.headers.keys() - {"connection"} == get.headers.keys() - {"connection"}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/service-info", "GET, HEAD, OPTIONS"),
        ("/tasks", "GET, POST, HEAD, OPTIONS"),
        ("/tasks/x", "GET, HEAD, OPTIONS"),
        ("/tasks/x:cancel", "POST, OPTIONS"),
    ],
)
def test_options_answers_with_what_a_path_has(service: Service, path: str, allowed: str) -> None:
    answer = httpx.options(service.url + path)
    assert (answer.status_code, answer.headers["allow"]) == (204, allowed)
    for method in {"PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"}:
        refusal = httpx.request(method, service.url + path)
        assert (refusal.status_code, refusal.headers["allow"]) == (405, allowed)
        assert refusal.headers["content-type"] == PROBLEM


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/nothing",
        "/tasks/",
        "/tasks/a/b",
        "/tasks/a%2Fb",
        "/tasks/x:resume",
        "/tasks/:cancel",
    ],
)
def test_an_unknown_path_is_404_for_every_method(service: Service, method: str, path: str) -> None:
    answer = httpx.request(method, service.url + path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == PROBLEM


@pytest.mark.parametrize("path", ["/", "/v1/tasks", "/tasks", "/ga4gh/tes/v2/tasks"])
def test_there_are_no_aliases_of_the_base_path(service: Service, path: str) -> None:
    base = urlsplit(service.url)
    assert httpx.get(f"{base.scheme}://{base.netloc}{path}").status_code == 404


def test_no_cache_keeps_a_task(service: Service) -> None:
    task_id = create(service)
    for path in ("/tasks", f"/tasks/{task_id}", "/tasks/nothing"):
        assert httpx.get(service.url + path).headers["cache-control"] == "no-store"


def test_large_replies_are_compressed_where_that_is_understood(service: Service) -> None:
    task_id = create(service, description="long " * 2000)
    url = f"{service.url}/tasks/{task_id}?view=FULL"
    packed = httpx.get(url)
    plain = httpx.get(url, headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["vary"]
    assert int(packed.headers["content-length"]) < 2000
    assert "content-encoding" not in plain.headers
    assert packed.json()["description"] == plain.json()["description"]
    small = httpx.get(f"{service.url}/tasks/{task_id}?view=MINIMAL")
    assert "content-encoding" not in small.headers


# --- queries --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("page_size=0", "page_size"),
        ("page_size=-1", "page_size"),
        ("page_size=2048", "page_size"),
        ("page_size=ten", "page_size"),
        ("page_size=", "page_size"),
        ("page_size=" + "9" * 5000, "page_size"),
        ("view=full", "view"),
        ("view=", "view"),
        ("state=DONE", "state"),
        ("page_token=nonsense", "page_token"),
        ("page_token=%C3%A9", "page_token"),
        ("name_prefix=%00", "name_prefix"),
        ("tag_key=%00", "tag_key[0]"),
        ("tag_key=a&tag_value=b%00", "tag_value[0]"),
        ("&".join(["tag_key=a"] * 33), "tag_key"),
    ],
)
def test_a_bad_parameter_is_400_with_its_name(service: Service, query: str, field: str) -> None:
    answer = httpx.get(f"{service.url}/tasks?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == PROBLEM
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_all_bad_parameters_are_named_at_once(service: Service) -> None:
    answer = httpx.get(f"{service.url}/tasks?view=x&page_size=0&state=y")
    assert {error["field"] for error in answer.json()["errors"]} == {"view", "page_size", "state"}


def test_a_bad_view_of_one_task_is_400_before_the_task_is_looked_for(service: Service) -> None:
    answer = httpx.get(f"{service.url}/tasks/nothing?view=ALL")
    assert [error["field"] for error in answer.json()["errors"]] == ["view"]


def test_what_is_not_asked_for_is_ignored(service: Service) -> None:
    newest = create(service)
    query = {"page_size": 1, "page_token": "", "name_prefix": "", "filter": "x", "tag_value": "v"}
    page = httpx.get(f"{service.url}/tasks", params=query).json()
    assert [task["id"] for task in page["tasks"]] == [newest]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        # The rows of the specification's table, each against all tasks.
        ("tag_key=foo&tag_value=bar", [BAR, BOTH]),
        ("tag_key=foo&tag_value=", WITH_FOO),
        ("tag_key=foo", WITH_FOO),
        ("tag_key=foo&tag_value=bar&tag_key=baz&tag_value=bat", [BOTH]),
        # Zipped by position, also where there are fewer values than keys.
        ("tag_key=foo&tag_key=baz&tag_value=bar", [BOTH]),
        ("tag_key=baz&tag_key=foo&tag_value=&tag_value=bar", [BOTH]),
        ("tag_key=baz&tag_key=foo&tag_value=bar", []),
        ("tag_key=foo&tag_value=ba", []),
        ("tag_key=Foo&tag_value=bar", []),
    ],
)
@pytest.mark.parametrize("view", ["MINIMAL", "BASIC", "FULL"])
@pytest.mark.parametrize("page_size", [1, 2047])
def test_tags_filter_as_the_specifications_table_has_it(
    service: Service,
    tagged: JsonObject,
    query: str,
    found: list[JsonObject],
    view: str,
    page_size: int,
) -> None:
    pairs = [tuple(pair.split("=")) for pair in query.split("&")]
    values: JsonObject = {
        name: [value for key, value in pairs if key == name] for name in ("tag_key", "tag_value")
    }
    ids = listed(service, **values, name_prefix="tagg", view=view, page_size=page_size)
    assert ids == [tagged[str(each)] for each in found][::-1]


def test_a_page_token_is_good_for_its_own_filters_only(service: Service) -> None:
    for _ in range(3):
        create(service, name="paged")
    query = {"name_prefix": "paged", "page_size": 1}
    token = httpx.get(f"{service.url}/tasks", params=query).json()["next_page_token"]
    others = {"name_prefix": "page", "page_token": token}
    assert httpx.get(f"{service.url}/tasks", params=others).status_code == 400
    altered = {**query, "page_token": token[:-1] + ("A" if token[-1] != "A" else "B")}
    assert httpx.get(f"{service.url}/tasks", params=altered).status_code == 400
    # Neither the view nor the size of a page is a filter.
    more = {**query, "page_token": token, "page_size": 2, "view": "FULL"}
    assert len(httpx.get(f"{service.url}/tasks", params=more).json()["tasks"]) == 2


def test_a_walk_shows_each_task_once_while_others_are_created_and_cancelled(
    service: Service,
) -> None:
    before = [create(service, name="walked") for _ in range(20)]
    stop = False

    def disturb() -> None:
        for count in itertools.count():
            if stop:
                return
            task_id = create(service, name="walked")
            victim = before[count % len(before)]
            for each in (task_id, victim):
                httpx.post(f"{service.url}/tasks/{each}:cancel").raise_for_status()

    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(disturb) for _ in range(2)]
        try:
            for size in (1, 3, 7):
                found = listed(service, name_prefix="walked", page_size=size)
                assert len(found) == len(set(found))
                assert found == sorted(found, reverse=True)
                assert [task_id for task_id in found if task_id in before] == before[::-1]
        finally:
            stop = True
        for each in busy:
            each.result()


# --- service-info ---------------------------------------------------------------------


def test_service_info_is_what_is_true_of_this_service(service: Service) -> None:
    info = httpx.get(f"{service.url}/service-info").json()
    assert info["version"] == raytes.__version__
    assert info["tesResources_backend_parameters"] == sorted(BACKEND_PARAMETERS)
    created, updated = (datetime.fromisoformat(info[key]) for key in ("createdAt", "updatedAt"))
    assert created <= updated <= datetime.now(UTC)
    assert "contactUrl" not in info
    assert None not in info.values()


# --- what clients do ------------------------------------------------------------------


def test_null_is_taken_for_every_optional_field_and_nothing_is_echoed(service: Service) -> None:
    nulls: JsonObject = dict.fromkeys(
        [
            *("id", "state", "name", "description", "inputs", "outputs", "volumes", "tags"),
            *("logs", "creation_time"),
        ]
    )
    resources = dict.fromkeys(["ram_gb", "disk_gb", "preemptible", "zones", "backend_parameters"])
    executor = service.executor(
        "true",
        **dict.fromkeys(["workdir", "stdin", "stdout", "stderr", "env", "ignore_error"]),
    )
    task_id = create(service, **nulls, resources=resources, executors=[executor])
    shown = httpx.get(f"{service.url}/tasks/{task_id}?view=BASIC").json()
    assert shown.keys() == {"id", "state", "creation_time", "logs", "executors", "resources"}
    assert shown["executors"] == [service.executor("true")]
    assert shown["resources"] == {"cpu_cores": 100_000}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", shown["creation_time"])


def test_a_client_without_a_body_or_with_credentials_is_served(service: Service) -> None:
    task_id = create(service)
    headers = {"Content-Type": "application/json", "Authorization": "Basic bm9ib2R5OnNlY3JldA=="}
    answer = httpx.post(f"{service.url}/tasks/{task_id}:cancel", headers=headers)
    assert (answer.status_code, answer.json()) == (200, {})
    assert answer.headers["content-type"] == "application/json"
    again = httpx.post(f"{service.url}/tasks/{task_id}:cancel", content=b"", headers=headers)
    assert (again.status_code, again.json()) == (200, {})


def test_a_store_of_an_enabled_scheme_needs_no_configuration(service: Service) -> None:
    outputs = [{"path": "/out/a", "url": "s3://nobody-knows-this-bucket/a"}]
    task_id = create(service, outputs=outputs)
    shown = httpx.get(f"{service.url}/tasks/{task_id}?view=BASIC").json()
    assert shown["outputs"] == [{**outputs[0], "type": "FILE"}]


def test_an_unknown_backend_parameter_is_dropped_and_warned_of(service: Service) -> None:
    asked = {"VmSize": "large", "MAX_RETRIES": "0"}
    task_id = create(service, resources={"backend_parameters": asked})
    shown = httpx.get(f"{service.url}/tasks/{task_id}?view=FULL").json()
    assert shown["resources"]["backend_parameters"] == {"max_retries": "0"}
    assert any("VmSize" in line for line in shown["logs"][0]["system_logs"])
    strict = {"backend_parameters": asked, "backend_parameters_strict": True}
    refusal = service.post(orjson.dumps(document(service, resources=strict)))
    assert refusal.status_code == 400
    assert [error["field"] for error in refusal.json()["errors"]] == [
        "resources.backend_parameters.VmSize"
    ]


# --- whatever is sent -----------------------------------------------------------------


def conversation(service: Service, request: bytes) -> bytes:
    """What is answered to these bytes, which need be no HTTP; HAProxy closes after it."""
    base = urlsplit(service.url)
    assert base.hostname is not None
    with socket.create_connection((base.hostname, base.port or 80), timeout=30) as connection:
        connection.sendall(request)
        with contextlib.suppress(OSError):  # it may have been answered and closed already
            connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answer:
            return answer.read()


TASKS = b"/ga4gh/tes/v1/tasks"
END = b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
JSON_BODY = END + b"Content-Type: application/json\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        b"GET " + TASKS + b"/%00" + END + b"\r\n",
        b"GET " + TASKS + b"/%ff%fe%0d%0a" + END + b"\r\n",
        b"GET " + TASKS + b"/%zz%" + END + b"\r\n",
        b"GET " + TASKS + b"/../../../../etc/passwd" + END + b"\r\n",
        b"GET " + TASKS + b"/" + b"x" * 12_000 + END + b"\r\n",
        b"GET " + TASKS + b"?" + b"tag_key=a&" * 1_000 + END + b"\r\n",
        b"GET " + TASKS + b"?%ff=%ff&view=%ff" + END + b"\r\n",
        b"GET " + TASKS + b"/\xff" + END + b"\r\n",
        b"GET " + TASKS + b" HTTP/1.1\r\nHost: [\r\nConnection: close\r\n\r\n",
        b"GET " + TASKS + b" HTTP/1.0\r\n\r\n",
        b"GET " + TASKS + END + b"Accept-Encoding: gzip;q=\xff, *;;;\r\n\r\n",
        b"GET " + TASKS + END + b"Origin: \xff\r\nAccept: \x01\r\n\r\n",
        b"GET " + TASKS + END + b"X-Long: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET " + TASKS + END + b"X-Request-ID: \xc3\xa9'\"<>\r\n\r\n",
        b"OPTIONS *" + END + b"\r\n",
        b"BREW " + TASKS + END + b"\r\n",
        b"POST " + TASKS + END + b"\r\n",
        b"POST " + TASKS + JSON_BODY + b"Content-Length: 2\r\n\r\n{}{}",
        b"POST " + TASKS + JSON_BODY + b"Content-Length: 500\r\n\r\n{}",
        b"POST " + TASKS + JSON_BODY + b"Content-Length: two\r\n\r\n{}",
        b"POST " + TASKS + JSON_BODY + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"POST " + TASKS + JSON_BODY + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"POST " + TASKS + JSON_BODY + b"Transfer-Encoding: chunked\r\n\r\nff\r\n{}",
        b"POST " + TASKS + JSON_BODY + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"POST " + TASKS + END + b"Content-Type: \xff/\xff\r\nContent-Length: 2\r\n\r\n{}",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=lambda request: repr(request[:60]),
)
def test_no_bytes_of_a_client_are_a_fault_of_the_server(service: Service, request_: bytes) -> None:
    answer = conversation(service, request_)
    # Nothing at all is what a client gets that breaks off in the middle of its request.
    assert re.match(rb"HTTP/1\.[01] [1-4]\d\d ", answer) or answer == b""
    assert httpx.get(f"{service.url}/tasks?page_size=1").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "a\\u0000b", "executors": [{"image": "i", "command": ["c"]}]}',
        b'{"tags": {"a": "\\u0000"}, "executors": [{"image": "i", "command": ["c"]}]}',
        b'{"name": "\\ud800", "executors": [{"image": "i", "command": ["c"]}]}',
        b'{"tags": {"\\udfff": ""}, "executors": [{"image": "i", "command": ["c"]}]}',
        b'{"name": "\xff"}',
        b'{"resources": {"cpu_cores": 1e99}}',
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:30]),
)
def test_text_that_no_database_takes_is_refused(service: Service, body: bytes) -> None:
    assert service.post(body).status_code == 400


@pytest.mark.parametrize("chunked", [False, True])
def test_a_document_that_is_too_large_is_refused_with_the_limit(
    service: Service, chunked: bool
) -> None:
    pieces = [b" " * 2**20] * 40
    answer = httpx.post(
        f"{service.url}/tasks",
        content=iter(pieces) if chunked else b"".join(pieces),
        headers={"Content-Type": "application/json"},
        timeout=60,
    )
    assert answer.status_code == 400
    assert f"at most {32 * 2**20} bytes" in answer.json()["errors"][0]["message"]
