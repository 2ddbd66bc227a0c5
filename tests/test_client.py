import json
import re
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from httpx._transports import default as _transports
from hypothesis import given
from hypothesis import strategies as st

from raytes.client import Client, LogText, RequestRefused, ServerUnreachable, overlap
from raytes.models import TesExecutor, TesState, TesTask
from raytes.views import View
from tests.scripted_server import DROPPED, Reply, Script, scripted_server


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted_server() as script:
        yield script


@pytest.fixture
def client(script: Script) -> Iterator[Client]:
    with Client(script.url) as client:
        yield client


def executor_log(stdout: str = "", stderr: str = "", *, ended: bool = False) -> dict[str, Any]:
    log = {"stdout": stdout, "stderr": stderr, "exit_code": 0 if ended else -1}
    return log | ({"end_time": "2026-01-01T00:00:00Z"} if ended else {})


def task(state: str, *attempts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "t1",
        "state": state,
        "executors": [{"image": "alpine", "command": ["true"]}],
        "logs": [{"logs": logs, "outputs": []} for logs in attempts],
    }


def test_certificates_are_read_for_https_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("certificates were read")

    # As it is outside of these tests, which read them once.
    monkeypatch.setattr(_transports, "create_ssl_context", httpx.create_ssl_context)
    monkeypatch.setattr(ssl, "create_default_context", refuse)
    Client("http://tes.example").close()
    with pytest.raises(AssertionError, match="certificates were read"):
        Client("https://tes.example")


def test_create_sends_what_was_set_and_returns_the_id(client: Client, script: Script) -> None:
    script.on("POST", "/tasks", {"id": "t1"})

    id = client.create(TesTask(executors=[TesExecutor(image="alpine", command=["true"])]))

    assert id == "t1"
    (request,) = script.sent("POST", "/tasks")
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.body) == {"executors": [{"image": "alpine", "command": ["true"]}]}


def test_create_sends_a_plain_document_as_it_is(client: Client, script: Script) -> None:
    script.on("POST", "/tasks", {"id": "t1"})
    document = {"executors": "no list", "unknown": None}

    client.create(document)

    assert json.loads(script.sent("POST", "/tasks")[0].body) == document


def test_a_minimal_task_has_id_and_state_and_nothing_else(client: Client, script: Script) -> None:
    script.on("GET", "/tasks/t1", {"id": "t1", "state": "RUNNING"})

    minimal = client.get("t1", View.MINIMAL)

    assert minimal.to_dict() == {"id": "t1", "state": "RUNNING"}
    assert script.requests[0].query == {"view": ["MINIMAL"]}


def test_an_id_is_quoted_in_the_path(client: Client, script: Script) -> None:
    script.on("GET", "/tasks/a%2Fb%3Fc", {"id": "a/b?c", "state": "QUEUED"})

    assert client.state("a/b?c") is TesState.QUEUED


def test_list_walks_all_pages_with_its_filters(client: Client, script: Script) -> None:
    script.on(
        "GET",
        "/tasks",
        {"tasks": [{"id": "3", "state": "QUEUED"}], "next_page_token": "next"},
        {"tasks": [{"id": "2", "state": "QUEUED"}, {"id": "1", "state": "QUEUED"}]},
    )

    found = client.list(
        name_prefix="p", state=TesState.QUEUED, tags={"a": "x", "b": ""}, page_size=2
    )

    assert [task.id for task in found] == ["3", "2", "1"]
    first, second = script.requests
    assert first.query == {
        "view": ["MINIMAL"],
        "page_size": ["2"],
        "name_prefix": ["p"],
        "state": ["QUEUED"],
        "tag_key": ["a", "b"],
        "tag_value": ["x", ""],
    }
    assert second.query == {**first.query, "page_token": ["next"]}


def test_list_asks_for_a_page_only_when_it_is_needed(client: Client, script: Script) -> None:
    script.on("GET", "/tasks", {"tasks": [{"id": "1", "state": "QUEUED"}], "next_page_token": "n"})

    assert next(client.list()).id == "1"
    assert len(script.requests) == 1


def test_wait_tells_each_change_once_and_returns_the_last_states(
    client: Client, script: Script
) -> None:
    states = ["QUEUED", "QUEUED", "RUNNING", "COMPLETE"]
    script.on("GET", "/tasks/a", *({"id": "a", "state": state} for state in states))
    script.on("GET", "/tasks/b", {"id": "b", "state": "EXECUTOR_ERROR"})
    changes: list[tuple[str, TesState]] = []

    ended = client.wait("a", "b", on_change=lambda id, state: changes.append((id, state)))

    assert ended == {"a": TesState.COMPLETE, "b": TesState.EXECUTOR_ERROR}
    assert changes == [
        ("a", TesState.QUEUED),
        ("b", TesState.EXECUTOR_ERROR),
        ("a", TesState.RUNNING),
        ("a", TesState.COMPLETE),
    ]
    assert len(script.sent("GET", "/tasks/b")) == 1


def in_state(state: str, transfer: str | None = None) -> dict[str, Any]:
    metadata = {} if transfer is None else {"transfer": transfer}
    return {"id": "a", "state": state, "logs": [{"logs": [], "outputs": [], "metadata": metadata}]}


def test_wait_tells_how_far_transfers_have_come_and_when_they_are_over(
    client: Client, script: Script
) -> None:
    script.on(
        "GET",
        "/tasks/a",
        in_state("QUEUED"),
        in_state("INITIALIZING"),
        in_state("INITIALIZING", "the inputs: 1 GB"),
        in_state("INITIALIZING", "the inputs: 1 GB"),
        in_state("INITIALIZING", "the inputs: 2 GB"),
        in_state("RUNNING"),
        in_state("RUNNING", "the output /o: 1 GB"),
        in_state("COMPLETE"),
    )
    told: list[tuple[str, str]] = []

    client.wait("a", on_transfer=lambda id, how_far: told.append((id, how_far)))

    assert told == [
        ("a", "the inputs: 1 GB"),
        ("a", "the inputs: 2 GB"),
        ("a", ""),
        ("a", "the output /o: 1 GB"),
        ("a", ""),
    ]
    views = [request.query["view"] for request in script.requests]
    assert views[:3] == [["MINIMAL"], ["MINIMAL"], ["BASIC"]]


def test_what_a_lost_attempt_has_left_is_no_transfer_of_an_ended_task(
    client: Client, script: Script
) -> None:
    script.on("GET", "/tasks/a", in_state("RUNNING"), in_state("SYSTEM_ERROR", "the inputs: 1 GB"))
    told: list[str] = []
    client.wait("a", on_transfer=lambda id, how_far: told.append(how_far))
    assert told == []


def test_wait_names_the_tasks_that_are_late(client: Client, script: Script) -> None:
    script.on("GET", "/tasks/a", {"id": "a", "state": "COMPLETE"})
    script.on("GET", "/tasks/b", {"id": "b", "state": "RUNNING"})

    with pytest.raises(TimeoutError, match=r"not yet at an end: b$"):
        client.wait("a", "b", timeout=0)


def test_a_task_that_another_server_leaves_preempted_has_ended(
    client: Client, script: Script
) -> None:
    script.on("GET", "/tasks/t1", task("PREEMPTED", [executor_log("some", ended=True)]))

    assert client.wait("t1", timeout=0) == {"t1": TesState.PREEMPTED}
    assert [text.text for text in client.follow("t1")] == ["some"]


class Clock:
    """A time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("raytes.client.time", clock)
    return clock


PASSING = [DROPPED, *(Reply(status=status) for status in (429, 502, 503, 504))]
passing = pytest.mark.parametrize("ill", PASSING, ids=lambda reply: str(reply.status or "dropped"))
WELL = {"id": "t1", "state": "RUNNING"}


@passing
def test_what_reads_is_asked_again_when_a_server_doesnt_answer_for_a_while(
    client: Client, script: Script, clock: Clock, ill: Reply
) -> None:
    ended = task("COMPLETE", [executor_log("all", ended=True)])
    script.on("GET", "/tasks/t1", WELL, *[ill] * 9, ended)
    assert client.wait("t1") == {"t1": TesState.COMPLETE}
    script.on("GET", "/tasks/t1", task("RUNNING"), *[ill] * 9, ended)
    assert [text.text for text in client.follow("t1")] == ["all"]
    script.on("GET", "/tasks", ill, {"tasks": [WELL]})
    assert [found.id for found in client.list()] == ["t1"]


@passing
def test_after_about_a_minute_the_servers_words_are_final(
    client: Client, script: Script, clock: Clock, ill: Reply
) -> None:
    script.on("GET", "/tasks/t1", WELL, ill)
    with pytest.raises((RequestRefused, ServerUnreachable)):
        client.wait("t1")
    assert 55 < clock.now < 65


@pytest.mark.parametrize("ill", [Reply(status=status) for status in (400, 404, 500)])
def test_what_does_not_pass_is_not_asked_again(client: Client, script: Script, ill: Reply) -> None:
    script.on("GET", "/tasks/t1", ill)
    with pytest.raises(RequestRefused):
        client.wait("t1")
    assert len(script.requests) == 1


@passing
def test_what_changes_something_is_sent_once(client: Client, script: Script, ill: Reply) -> None:
    script.on("GET", "/tasks/t1", WELL)
    client.state("t1")
    script.on("POST", "/tasks", ill)
    script.on("POST", "/tasks/t1:cancel", ill)
    for change in (lambda: client.create({}), lambda: client.cancel("t1")):
        with pytest.raises((RequestRefused, ServerUnreachable)):
            change()
    assert len(script.sent("POST", "/tasks")) == 1
    assert len(script.sent("POST", "/tasks/t1:cancel")) == 1


def test_a_server_is_left_alone_for_as_long_as_it_asks(
    client: Client, script: Script, clock: Clock
) -> None:
    script.on("GET", "/tasks/t1", Reply(status=429, headers={"Retry-After": "7"}), WELL)
    assert client.state("t1") is TesState.RUNNING
    assert clock.now == 7

    a_date = {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}
    script.on("GET", "/tasks/t1", Reply(status=503, headers=a_date), WELL)
    assert client.state("t1") is TesState.RUNNING

    script.on("GET", "/tasks/t1", Reply(status=429, headers={"Retry-After": "3600"}), WELL)
    with pytest.raises(RequestRefused):
        client.state("t1")


def test_a_timeout_holds_while_the_server_does_not_answer(
    client: Client, script: Script, clock: Clock
) -> None:
    script.on("GET", "/tasks/a", {"id": "a", "state": "COMPLETE"})
    script.on("GET", "/tasks/b", Reply(status=503))
    with pytest.raises(TimeoutError, match=r"not yet at an end: b, c$"):
        client.wait("a", "b", "c", timeout=5)
    assert clock.now <= 5


def test_follow_yields_each_text_once(client: Client, script: Script) -> None:
    script.on(
        "GET",
        "/tasks/t1",
        task("QUEUED"),
        task("RUNNING", [executor_log("one\n")]),
        task("RUNNING", [executor_log("one\n", "warning\n")]),
        task(
            "COMPLETE", [executor_log("one\ntwo\n", "warning\n", ended=True), executor_log("next")]
        ),
    )

    assert list(client.follow("t1")) == [
        LogText(0, "stdout", "one\n"),
        LogText(0, "stderr", "warning\n"),
        LogText(0, "stdout", "two\n"),
        LogText(1, "stdout", "next"),
    ]


def test_follow_finds_its_place_in_a_tail_that_was_cut(client: Client, script: Script) -> None:
    script.on(
        "GET",
        "/tasks/t1",
        task("RUNNING", [executor_log("abcdef")]),
        task("COMPLETE", [executor_log("defghi", ended=True)]),
    )

    assert [text.text for text in client.follow("t1")] == ["abcdef", "ghi"]


def test_follow_says_when_it_has_missed_something(client: Client, script: Script) -> None:
    script.on(
        "GET",
        "/tasks/t1",
        task("RUNNING", [executor_log("abc")]),
        task("COMPLETE", [executor_log("xyz", ended=True)]),
    )

    assert [(text.text, text.skipped) for text in client.follow("t1")] == [
        ("abc", False),
        ("xyz", True),
    ]


def test_follow_starts_anew_with_a_new_attempt(client: Client, script: Script) -> None:
    script.on(
        "GET",
        "/tasks/t1",
        task("RUNNING", [executor_log("same")]),
        task("COMPLETE", [executor_log("same")], [executor_log("same", ended=True)]),
    )

    assert [text.text for text in client.follow("t1")] == ["same", "same"]


def test_follow_waits_for_the_rest_of_a_character(client: Client, script: Script) -> None:
    script.on(
        "GET",
        "/tasks/t1",
        task("RUNNING", [executor_log("caf\ufffd")]),
        task("COMPLETE", [executor_log("café", ended=True)]),
    )

    assert "".join(text.text for text in client.follow("t1")) == "café"


@given(before=st.text("ab\n", max_size=200), after=st.text("ab\n", max_size=200))
def test_the_overlap_of_two_tails_is_the_longest_there_is(before: str, after: str) -> None:
    lengths = range(min(len(before), len(after)), 0, -1)
    longest = next((length for length in lengths if before.endswith(after[:length])), 0)

    assert overlap(before, after) == longest


def test_a_problem_is_shown_with_all_its_fields(client: Client, script: Script) -> None:
    problem = {
        "status": 400,
        "title": "Bad Request",
        "detail": "the task document has 2 mistakes",
        "errors": [
            {"field": "executors[0].image", "message": "must not be empty"},
            {"field": "inputs[1].path", "message": "must be absolute"},
        ],
    }
    script.on("POST", "/tasks", Reply(problem, 400, "application/problem+json"))

    with pytest.raises(RequestRefused) as refusal:
        client.create({})

    assert refusal.value.status == 400
    assert str(refusal.value) == (
        "Bad Request (400): the task document has 2 mistakes\n"
        "  executors[0].image: must not be empty\n"
        "  inputs[1].path: must be absolute"
    )


@pytest.mark.parametrize("body", ["<html>Bad Gateway</html>", "[]", '"text"'])
def test_an_error_that_is_no_problem_document_is_shown_as_it_is(
    client: Client, script: Script, body: str
) -> None:
    script.on("GET", "/service-info", Reply(body, 502, "text/html"))

    with pytest.raises(RequestRefused) as refusal:
        client.service_info()

    assert str(refusal.value) == f"Bad Gateway (502): {body}"


NO_TES = [
    Reply("<html>Welcome</html>", 200, "text/html"),
    Reply("{}", headers={"Content-Encoding": "gzip"}),
    Reply("[]"),
    Reply({"tasks": [{"state": "SLEEPING"}], "state": "SLEEPING", "name": 1}),
]


@pytest.mark.parametrize("reply", NO_TES, ids=lambda reply: str(reply.body)[:20])
@pytest.mark.parametrize(
    ("method", "path", "ask"),
    [
        ("GET", "/service-info", Client.service_info),
        ("GET", "/tasks", lambda client: list(client.list())),
        ("GET", "/tasks/one", lambda client: client.get("one")),
        ("POST", "/tasks", lambda client: client.create({})),
    ],
)
def test_what_is_no_tes_server_is_told_apart(
    client: Client,
    script: Script,
    method: str,
    path: str,
    ask: Callable[[Client], object],
    reply: Reply,
) -> None:
    script.on(method, path, reply)
    with pytest.raises(ServerUnreachable, match="is not a TES server: "):
        ask(client)


@pytest.mark.parametrize("body", [{}, {"tasks": None}, {"tasks": ["one"]}])
def test_a_list_without_tasks_is_none_of_a_tes_server(
    client: Client, script: Script, body: object
) -> None:
    script.on("GET", "/tasks", body)
    with pytest.raises(ServerUnreachable, match="is not a TES server: "):
        list(client.list())


def test_a_server_that_is_not_there_is_named() -> None:
    url = "http://127.0.0.1:1"

    with Client(url) as client, pytest.raises(ServerUnreachable, match=url):
        client.service_info()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_no_proxy_is_asked_for_a_server_on_this_machine(
    script: Script, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    script.on("GET", "/tasks/t1", {"id": "t1", "state": "QUEUED"})

    with Client(script.url.replace("127.0.0.1", name)) as client:
        assert client.state("t1") is TesState.QUEUED
    with Client("http://tes.example") as client, pytest.raises(ServerUnreachable, match="refused"):
        client.state("t1")


def test_an_address_that_can_not_be_one_is_named() -> None:
    url = "http://[::1"

    with pytest.raises(ServerUnreachable, match=re.escape(url)):
        Client(url)


def test_the_base_path_may_be_part_of_the_address(script: Script) -> None:
    script.on("GET", "/tasks/t1", {"id": "t1", "state": "QUEUED"})

    with Client(f"{script.url}/ga4gh/tes/v1/") as client:
        assert client.state("t1") is TesState.QUEUED


def test_a_token_is_sent_as_bearer_token(script: Script) -> None:
    script.on("POST", "/tasks/t1:cancel", {})

    with Client(script.url, token="secret") as client:
        client.cancel("t1")

    assert script.requests[0].headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("errors", [None, ["x"], {"Executors": ["is missing"]}, "x", 1])
def test_another_servers_words_for_mistakes_are_no_reason_to_fail(
    client: Client, script: Script, errors: Any
) -> None:
    script.on("POST", "/tasks", Reply({"title": "No task", "errors": errors}, status=400))
    with pytest.raises(RequestRefused, match="No task"):
        client.create({})
