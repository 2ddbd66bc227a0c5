import contextlib
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from raytes.cli import main
from tests.scripted_server import DROPPED, Reply, Script, scripted_server

ID = "01jd3x6r2qk4s8w0v9n5m7h1zb"


@dataclass
class Result:
    """How a command ended and what it wrote."""

    code: int | str | None
    stdout: str
    stderr: str


Command = Callable[..., Result]


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted_server() as script:
        yield script


@pytest.fixture
def raytes(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.setenv("RAYTES_SERVER", script.url)

    def raytes(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        captured = capsys.readouterr()
        return Result(end.value.code, captured.out, captured.err)

    return raytes


def task(state: str, exit_code: int = 0, stdout: str = "", stderr: str = "") -> dict[str, Any]:
    log = {
        "exit_code": exit_code,
        "stdout": stdout,
        "stderr": stderr,
        "end_time": "2026-01-01T00:00:01Z",
    }
    return {
        "id": ID,
        "state": state,
        "name": "hello",
        "creation_time": "2026-01-01T00:00:00Z",
        "executors": [{"image": "alpine", "command": ["true"]}],
        "logs": [{"logs": [log], "outputs": [], "system_logs": ["the image alpine is not there"]}],
    }


def test_run_sends_what_its_options_say(raytes: Command, script: Script) -> None:
    script.on("POST", "/tasks", {"id": ID})

    options = (
        "--name=n --cpu=2 --ram=1.5 --disk=3 --input=s3://b/in:/in --output=/out:s3://b/out "
        "--env=A=1 --tag=t=u --volume=/v --stdin=/in --workdir=/w --detach"
    )
    result = raytes("run", *options.split(), "alpine", "ls", "--all", "--name")

    assert result == Result(0, f"{ID}\n", "")
    assert json.loads(script.requests[0].body) == {
        "name": "n",
        "inputs": [{"url": "s3://b/in", "path": "/in", "type": "FILE"}],
        "outputs": [{"url": "s3://b/out", "path": "/out", "type": "FILE"}],
        "resources": {"cpu_cores": 2, "ram_gb": 1.5, "disk_gb": 3.0},
        "executors": [
            {
                "image": "alpine",
                "command": ["ls", "--all", "--name"],
                "env": {"A": "1"},
                "stdin": "/in",
                "workdir": "/w",
            }
        ],
        "volumes": ["/v"],
        "tags": {"t": "u"},
    }


def test_run_shows_both_streams_and_exits_with_the_commands_own_code(
    raytes: Command, script: Script
) -> None:
    script.on("POST", "/tasks", {"id": ID})
    script.on("GET", f"/tasks/{ID}", task("EXECUTOR_ERROR", 42, "data\n", "oops\n"))

    assert raytes("run", "alpine", "false") == Result(42, "data\n", f"task {ID}\noops\n")


@pytest.mark.parametrize(("state", "code"), [("SYSTEM_ERROR", 70), ("PREEMPTED", 75)])
def test_run_says_why_the_system_failed(
    raytes: Command, script: Script, state: str, code: int
) -> None:
    script.on("POST", "/tasks", {"id": ID})
    script.on("GET", f"/tasks/{ID}", task(state))

    result = raytes("run", "alpine", "true")

    assert result.code == code
    assert "the image alpine is not there" in result.stderr


@pytest.mark.parametrize("answer", [task("RUNNING"), Reply(status=503)], ids=["well", "ill"])
def test_run_cancels_its_task_on_ctrl_c(
    raytes: Command, script: Script, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    script.on("POST", "/tasks", {"id": ID})
    script.on("GET", f"/tasks/{ID}", answer)
    script.on("POST", f"/tasks/{ID}:cancel", {})

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("raytes.client.time.sleep", interrupt)

    assert raytes("run", "alpine", "sleep", "600").code == 130
    assert script.sent("POST", f"/tasks/{ID}:cancel")


def test_an_argument_that_can_not_be_understood_is_named(raytes: Command, script: Script) -> None:
    result = raytes("run", "--env=A", "alpine", "true")

    assert (result.code, result.stderr) == (2, "raytes: 'A' is not of the form KEY=VALUE\n")
    assert not script.requests


def test_run_goes_on_though_the_service_is_restarted_in_between(
    raytes: Command, script: Script
) -> None:
    script.on("POST", "/tasks", {"id": ID})
    restart = DROPPED, Reply(status=503)
    answers = task("RUNNING", stdout="one\n"), *restart, task("COMPLETE", stdout="one\ntwo\n")
    script.on("GET", f"/tasks/{ID}", *answers)

    assert raytes("run", "alpine", "true") == Result(0, "one\ntwo\n", f"task {ID}\n")
    assert len(script.sent("POST", "/tasks")) == 1


def test_submit_prints_the_id(raytes: Command, script: Script, tmp_path: Path) -> None:
    script.on("POST", "/tasks", {"id": ID})
    file = tmp_path / "task.json"
    file.write_text('{"executors": []}')

    assert raytes("submit", str(file)) == Result(0, f"{ID}\n", "")
    assert json.loads(script.requests[0].body) == {"executors": []}


def test_submit_reads_stdin_and_waits(
    raytes: Command, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.on("POST", "/tasks", {"id": ID})
    script.on("GET", f"/tasks/{ID}", {"id": ID, "state": "COMPLETE"})
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"executors": []}')))

    result = raytes("submit", "--wait", "-")

    assert (result.code, result.stdout) == (0, f"{ID}\n{ID} COMPLETE\n")


def test_submit_of_what_is_not_json_is_a_mistake_in_usage(raytes: Command, tmp_path: Path) -> None:
    file = tmp_path / "task.json"
    file.write_text("{")

    result = raytes("submit", str(file))

    assert result.code == 2
    assert f"raytes: {file} is not JSON: " in result.stderr


def test_a_refused_document_is_a_mistake_in_usage_that_names_the_field(
    raytes: Command, script: Script
) -> None:
    problem = {"title": "Bad Request", "errors": [{"field": "executors", "message": "is empty"}]}
    script.on("POST", "/tasks", Reply(problem, 400, "application/problem+json"))

    result = raytes("run", "alpine", "true")

    assert (result.code, result.stderr) == (
        2,
        "raytes: Bad Request (400)\n  executors: is empty\n",
    )


def test_get_prints_the_task_in_a_view(raytes: Command, script: Script) -> None:
    script.on("GET", f"/tasks/{ID}", {"id": ID, "state": "QUEUED"})

    result = raytes("get", ID, "--view=MINIMAL")

    assert json.loads(result.stdout) == {"id": ID, "state": "QUEUED"}
    assert script.requests[0].query == {"view": ["MINIMAL"]}


def test_a_task_that_is_not_there_is_a_failure(raytes: Command) -> None:
    assert raytes("get", "nothing").code == 1


def test_list_has_a_line_for_each_task_with_its_whole_id(raytes: Command, script: Script) -> None:
    long_name = "a-name-that-is-wider-than-any-terminal-" * 5
    script.on("GET", "/tasks", {"tasks": [task("RUNNING") | {"name": long_name}, task("COMPLETE")]})

    _, first, second = raytes("list").stdout.splitlines()

    assert first.split() == [ID, "RUNNING", "2026-01-01T00:00:00Z", long_name]
    assert second.split() == [ID, "COMPLETE", "2026-01-01T00:00:00Z", "hello"]


def test_list_sends_its_filters_and_prints_json_lines(raytes: Command, script: Script) -> None:
    script.on("GET", "/tasks", {"tasks": [task("COMPLETE")] * 3})

    result = raytes(
        "list", "--state=complete", "--name-prefix=h", "--tag=a=b", "--limit=2", "--json"
    )

    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [ID, ID]
    assert script.requests[0].query == {
        "view": ["BASIC"],
        "page_size": ["2"],
        "name_prefix": ["h"],
        "state": ["COMPLETE"],
        "tag_key": ["a"],
        "tag_value": ["b"],
    }


@pytest.mark.parametrize("options", [(), ("--follow",)])
def test_logs_shows_each_stream_where_it_belongs_and_then_the_systems_words(
    raytes: Command, script: Script, options: tuple[str, ...]
) -> None:
    script.on("GET", f"/tasks/{ID}", task("COMPLETE", 0, "data\n", "warning\n"))

    assert raytes("logs", *options, ID) == Result(
        0, "data\n", "warning\nthe image alpine is not there\n"
    )


def test_logs_asks_once(raytes: Command, script: Script) -> None:
    script.on("GET", f"/tasks/{ID}", task("COMPLETE"))
    raytes("logs", ID)
    assert len(script.requests) == 1


def test_logs_shows_what_the_terminal_s_encoding_has_and_marks_the_rest(script: Script) -> None:
    script.on("GET", f"/tasks/{ID}", task("COMPLETE", 0, "caf\xe9 \u20ac\n"))
    command = [sys.executable, "-m", "raytes", "logs", ID, "--server", script.url]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}

    shown = subprocess.run(command, capture_output=True, check=True, env=environment)

    assert shown.stdout == b"caf\xe9 ?\n"


def test_cancel_cancels_each_task(raytes: Command, script: Script) -> None:
    script.on("POST", "/tasks/a:cancel", {})
    script.on("POST", "/tasks/b:cancel", {})

    assert raytes("cancel", "a", "b").code == 0
    assert [request.path for request in script.requests] == ["/tasks/a:cancel", "/tasks/b:cancel"]


def test_cancel_cancels_the_others_where_there_is_no_such_task(
    raytes: Command, script: Script
) -> None:
    script.on("POST", "/tasks/b:cancel", {})

    done = raytes("cancel", "a", "b")
    assert done.code == 1
    assert [request.path for request in script.requests] == ["/tasks/a:cancel", "/tasks/b:cancel"]
    assert done.stderr.startswith("raytes: a: Not Found (404)")


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("COMPLETE", 0),
        ("EXECUTOR_ERROR", 1),
        ("SYSTEM_ERROR", 70),
        ("PREEMPTED", 75),
        ("CANCELED", 130),
    ],
)
def test_wait_exits_by_the_state(raytes: Command, script: Script, state: str, code: int) -> None:
    script.on("GET", "/tasks/a", {"id": "a", "state": "RUNNING"}, {"id": "a", "state": state})

    assert raytes("wait", "a") == Result(code, f"a {state}\n", f"a RUNNING\na {state}\n")


def test_wait_gives_up_after_its_timeout(raytes: Command, script: Script) -> None:
    script.on("GET", "/tasks/a", {"id": "a", "state": "RUNNING"})

    assert raytes("wait", "--timeout=0", "a").code == 124
    assert raytes("wait", "--timeout=0.001m", "a").code == 124


def test_a_server_that_is_not_there_has_an_exit_code_of_its_own(raytes: Command) -> None:
    result = raytes("info", "--server=http://127.0.0.1:1")

    assert result.code == 69
    assert "http://127.0.0.1:1" in result.stderr


def test_info_shows_what_the_server_says_of_itself(raytes: Command, script: Script) -> None:
    service = {
        "id": "org.example.tes",
        "name": "example",
        "type": {"group": "org.ga4gh", "artifact": "tes", "version": "1.1.0"},
        "organization": {"name": "Example", "url": "https://example.org"},
        "version": "0.1.0",
        "storage": ["file:///data", "s3://"],
    }
    script.on("GET", "/service-info", service)

    assert json.loads(raytes("info", "--json").stdout) == service
    table = raytes("info").stdout
    assert "file:///data" in table
    assert "org.ga4gh tes 1.1.0" in table


NODE = {
    "name": "worker-1", "cpus": 4.0, "memory_gb": 8.0, "gpus": 1.0, "gpu_type": "A100",
    "closed": None, "runners": 2, "tasks": 1, "podman": "5.2.1", "scratch_free_gb": 40.0,
    "shortcomings": ["this node can't limit processes"],
}  # fmt: skip


def test_health_shows_the_nodes_and_what_they_can_not_do(raytes: Command, script: Script) -> None:
    unseen = {**NODE, "name": "worker-2", "podman": None, "scratch_free_gb": None}
    unseen |= {"shortcomings": None, "closed": "it is being drained"}
    script.on("GET", "/health", {"nodes": [NODE, unseen]})

    result = raytes("health")

    assert result.code == 0
    first, second = result.stdout.splitlines()[1:]
    assert " ".join(first.split()) == "worker-1 4 8.0 GB 1 A100 40.0 GB 5.2.1 2 1"
    assert " ".join(second.split()) == "worker-2 4 8.0 GB 1 A100 2 1"
    assert result.stderr.splitlines() == [
        "worker-1: this node can't limit processes",
        "worker-2 gets no tasks: it is being drained",
    ]
    assert json.loads(raytes("health", "--json").stdout)["nodes"][0] == NODE


def test_health_fails_with_the_servers_words_when_tasks_can_not_be_run(
    raytes: Command, script: Script
) -> None:
    problem = {"status": 503, "title": "Service Unavailable", "detail": "the disk is full"}
    script.on("GET", "/health", Reply(problem, 503, "application/problem+json"))

    result = raytes("health")

    assert result.code == 1
    assert "the disk is full" in result.stderr


def test_the_help_lists_the_exit_codes(raytes: Command) -> None:
    help = raytes("--help").stdout

    assert all(f"{code}: " in help for code in (0, 1, 2, 69, 70, 75, 124, 130))


def test_nothing_heavy_is_imported_before_a_command_needs_it() -> None:
    program = (
        "import raytes.cli, sys; "
        "print(*{'ray', 'httpx', 'pydantic', 'fastapi', 'rich'} & sys.modules.keys())"
    )

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert loaded.stdout == b"\n"


@pytest.fixture
def terminal(script: Script) -> Callable[..., str]:
    """Runs a command on a terminal and returns all that came there."""

    def terminal(*arguments: str) -> str:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "raytes", *arguments]
        environment = os.environ | {
            "TERM": "xterm",
            "COLUMNS": "200",
            "RAYTES_SERVER": script.url,
        }
        with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment):
            os.close(theirs)
            text = b""
            with contextlib.suppress(OSError):  # how Linux says that nobody writes any more
                while piece := os.read(ours, 2**16):
                    text += piece
        os.close(ours)
        return text.decode()

    return terminal


def transferring(state: str, how_far: str, stdout: str = "") -> dict[str, Any]:
    document = task(state, stdout=stdout)
    document["logs"][0]["metadata"] = {"transfer": how_far}
    return document


def test_wait_shows_on_a_terminal_how_far_transfers_are(
    terminal: Callable[..., str], script: Script
) -> None:
    how_far = "the inputs: 3.1 GB of 8.0 GB (38 %), 2 of 5 files, 104.2 MB/s"
    waiting = [transferring("INITIALIZING", how_far)] * 3
    script.on("GET", f"/tasks/{ID}", *waiting, task("RUNNING"), task("COMPLETE"))

    shown = terminal("wait", ID)

    assert f"{ID} {how_far}" in shown
    assert shown.endswith(f"{ID} COMPLETE\r\n")


def test_run_shows_on_a_terminal_how_far_transfers_are_and_erases_nothing(
    terminal: Callable[..., str], script: Script
) -> None:
    script.on("POST", "/tasks", {"id": ID})
    script.on(
        "GET",
        f"/tasks/{ID}",
        transferring("INITIALIZING", "the inputs: 1 GB"),
        task("RUNNING", stdout="no end of line"),
        transferring("RUNNING", "the output /o: 2 GB", "no end of line"),
        task("COMPLETE", stdout="no end of line"),
    )

    shown = terminal("run", "alpine", "true")

    clear = "\r\x1b[2K"
    assert shown == (
        f"task {ID}\r\n"
        f"{clear}the inputs: 1 GB{clear}no end of line\r\n"
        f"{clear}the output /o: 2 GB{clear}"
    )
