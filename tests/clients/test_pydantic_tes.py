"""pydantic-tes, the client whose models refuse what the specification doesn't allow."""

import json
import subprocess
from typing import Any

import pytest

from tests.clients import PROGRAMS
from tests.clients.environments import environment
from tests.service.running import Service


@pytest.fixture(scope="module")
def session(service: Service) -> dict[str, Any]:
    """What pydantic-tes has seen, and the directory that its tasks wrote to."""
    installed = environment("pydantic-tes", "pydantic-tes==0.4.0")
    directory = service.files / "pydantic-tes"
    base = service.url.removesuffix("v1")
    program = PROGRAMS / "pydantic_tes.py"
    session = [installed.program("python"), program, base, service.image, directory]
    done = subprocess.run(session, stdout=subprocess.PIPE, check=True, timeout=150)
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen | {"directory": directory}


def test_a_step_reads_what_the_one_before_it_wrote(session: dict[str, Any]) -> None:
    assert session["views"]["FULL"]["state"] == "COMPLETE"
    assert (session["directory"] / "second").read_bytes() == b"one\ntwo\n"
    [log] = session["written"]["logs"]
    [output] = log["outputs"]
    assert (output["path"], output["size_bytes"]) == ("/out/first", "4")


def test_a_failing_step_is_seen_with_its_exit_code_and_its_log(session: dict[str, Any]) -> None:
    assert session["failed"]["state"] == "EXECUTOR_ERROR"
    [executor] = session["failed"]["logs"][0]["logs"]
    assert (executor["exit_code"], executor["stderr"]) == (3, "in vain\n")


def test_a_cancel_is_seen(session: dict[str, Any]) -> None:
    assert session["canceled"]["state"] == "CANCELED"


def test_the_list_begins_with_the_newest(session: dict[str, Any]) -> None:
    assert [task["id"] for task in session["listed"][:4]] == session["created"][::-1]


def test_the_service_says_what_it_is(session: dict[str, Any]) -> None:
    assert session["service"]["type"]["artifact"] == "tes"
