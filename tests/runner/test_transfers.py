"""Inputs from and outputs to a server, as a task sees them and as its log tells of them."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from raytes.attempt import Update
from raytes.models import TesState
from raytes.runner import report
from raytes.storage import progress
from tests.runner.conftest import Attempt, Bench
from tests.storage.faulty_proxy import FaultyProxy, faulty_proxy


@pytest.fixture
def server() -> Iterator[FaultyProxy]:
    """A web server that gives back what is PUT there."""
    with faulty_proxy() as server:
        yield server


def run(
    bench: Bench,
    server: FaultyProxy,
    script: str,
    said: Callable[[Update], None] = lambda update: None,
    **task: Any,
) -> Attempt:
    return bench.run(
        {"executors": [bench.executor(script)], **task},
        said=said,
        schemes=("file", "http"),
        storage={server.url: {}},
    )


def downloads(server: FaultyProxy) -> int:
    return sum(request.startswith("GET ") for request in server.requests)


def cache_of(attempt: Attempt) -> str | None:
    return (attempt.log.metadata or {}).get("cache")


def test_an_input_that_the_node_has_is_neither_fetched_nor_copied_again(
    bench: Bench, server: FaultyProxy
) -> None:
    server.files["/in"] = os.urandom(1000)
    inputs = [{"url": f"{server.url}/in", "path": "/in/f"}]
    # Two names, in the cache and in scratch: it is the entry itself.
    script = "wc -c < /in/f; stat -c %h /in/f"

    attempts = [run(bench, server, script, inputs=inputs) for _ in range(3)]

    assert [one.stdout() for one in attempts] == ["1000\n2\n"] * 3
    assert [cache_of(one) for one in attempts] == ["miss", "hit", "hit"]
    assert downloads(server) == 1


def test_some_of_the_inputs_may_come_from_the_cache(bench: Bench, server: FaultyProxy) -> None:
    server.files |= {"/a": b"a", "/b": b"b"}
    inputs = [{"url": f"{server.url}/{name}", "path": f"/in/{name}"} for name in "ab"]
    run(bench, server, "true", inputs=inputs[:1])
    assert cache_of(run(bench, server, "true", inputs=inputs)) == "partial"


def test_a_task_without_remote_inputs_says_nothing_of_the_cache(
    bench: Bench, server: FaultyProxy
) -> None:
    (bench.files / "f").write_text("local")
    inputs = [{"url": str(bench.files / "f"), "path": "/f"}, {"content": "x", "path": "/x"}]
    assert cache_of(run(bench, server, "true", inputs=inputs)) is None


def test_a_task_can_not_write_to_what_the_node_keeps(bench: Bench, server: FaultyProxy) -> None:
    server.files["/in"] = b"original"
    inputs = [{"url": f"{server.url}/in", "path": "/in/f"}]
    refused = run(bench, server, "echo x > /in/f", inputs=inputs)
    again = run(bench, server, "cat /in/f", inputs=inputs)
    assert refused.state is TesState.EXECUTOR_ERROR
    assert (again.stdout(), cache_of(again)) == ("original", "hit")


def test_in_a_volume_an_input_is_the_task_s_own_copy(bench: Bench, server: FaultyProxy) -> None:
    server.files["/in"] = b"original"
    task = {"volumes": ["/v"], "inputs": [{"url": f"{server.url}/in", "path": "/v/f"}]}
    scripts = ("echo changed > /v/f && cat /v/f", "cat /v/f")
    attempts = [run(bench, server, script, **task) for script in scripts]
    assert [one.stdout() for one in attempts] == ["changed\n", "original"]
    assert cache_of(attempts[1]) == "hit"


def test_an_input_that_is_an_output_too_leaves_the_cache_alone(
    bench: Bench, server: FaultyProxy
) -> None:
    server.files["/in"] = b"original"
    url = str(bench.files / "out")
    task = {
        "inputs": [{"url": f"{server.url}/in", "path": "/in/f"}],
        "outputs": [{"url": url, "path": "/in/f"}],
    }
    assert run(bench, server, "true", **task).state is TesState.COMPLETE
    (bench.files / "out").write_text("changed")
    again = run(bench, server, "cat /in/f", inputs=task["inputs"])
    assert (again.stdout(), cache_of(again)) == ("original", "hit")


def test_what_leads_to_a_forbidden_address_is_not_tried_again(
    bench: Bench, server: FaultyProxy
) -> None:
    server.faults.append("http://169.254.169.254/latest/meta-data")
    inputs = [{"url": f"{server.url}/in", "path": "/in"}]
    attempt = run(bench, server, "true", inputs=inputs)
    assert (attempt.state, attempt.last.retry) == (TesState.SYSTEM_ERROR, False)
    assert attempt.failure_reason == "forbidden_url"
    assert f"{server.url}/in" in attempt.system_logs
    assert "169.254.169.254 is an address of the node itself or of its cloud" in attempt.system_logs


def test_a_store_that_is_down_is_tried_again_and_is_not_the_node_s_fault(bench: Bench) -> None:
    url = "http://127.0.0.1:1"
    attempt = bench.run(
        {"executors": [bench.executor("true")], "inputs": [{"url": f"{url}/f", "path": "/f"}]},
        schemes=("file", "http"),
        storage={url: {}},
    )
    assert attempt.failure_reason == "input_failed"
    assert attempt.last.retry
    assert not attempt.last.of_node


def test_a_command_that_failed_is_not_run_again_because_an_output_can_not_be_stored(
    bench: Bench, server: FaultyProxy
) -> None:
    server.before_put = lambda path: 403 if path == "/refused" else None
    outputs = [{"path": f"/o/{name}", "url": f"{server.url}/{name}"} for name in ("refused", "log")]
    attempt = run(bench, server, "echo log | tee /o/refused > /o/log; exit 3", outputs=outputs)
    assert (attempt.state, attempt.last.retry) == (TesState.EXECUTOR_ERROR, False)
    assert attempt.failure_reason == "executor_error"
    assert "403" in attempt.system_logs
    assert server.files == {"/log": b"log\n"}


def test_transfers_that_last_are_told_of_in_the_system_log(
    bench: Bench, server: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINES", progress.Pace(0, 0, 0))
    server.files["/in"] = os.urandom(3 * 2**20)
    attempt = run(
        bench,
        server,
        "cp /in/f /out/f",
        inputs=[{"url": f"{server.url}/in", "path": "/in/f"}],
        outputs=[{"url": f"{server.url}/out", "path": "/out/f"}],
    )
    assert server.files["/out"] == server.files["/in"]
    for what in ("the input /in/f", "the output /out/f"):
        assert re.search(rf"{what}: .* of 3.1 MB \(\d+ %\), .*B/s\n", attempt.system_logs)
        assert f"{what}: done, 1 file, 3.1 MB in " in attempt.system_logs


def test_while_transfers_last_the_metadata_say_how_far_they_are(
    bench: Bench, server: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LIVE", progress.Pace(0, 0, 0))
    monkeypatch.setattr(report, "_LINES_AFTER", 0.0)
    monkeypatch.setattr(report, "_TAILS_EVERY", 0.0)
    seen: list[str] = []
    it_was_told = threading.Event()

    def said(update: Update) -> None:
        if update.log and (told := (update.log.metadata or {}).get("transfer")):
            seen.append(told)
            it_was_told.set()

    server.files = {"/a": os.urandom(3 * 2**20), "/b": b"b"}
    # The second file is held back until the first one's bytes were told of.
    server.before_get = lambda path: path == "/b" and it_was_told.wait(30) and None
    inputs = [{"url": f"{server.url}/{name}", "path": f"/in/{name}"} for name in "ab"]
    attempt = run(bench, server, "true", said=said, inputs=inputs)
    assert attempt.state is TesState.COMPLETE
    assert all(re.match(r"the inputs: .*B.*, .*/s$", one) for one in seen)
    assert "transfer" not in (attempt.log.metadata or {})
