"""py-tes, the reference client: the release of today, and the one that older engines bring."""

import json
import subprocess
from typing import Any

import pytest

from tests.clients import PROGRAMS
from tests.clients.environments import Environment, environment
from tests.service.running import Service

BASIC = {"id", "state", "name", "inputs", "outputs", "executors", "logs", "tags", "creation_time"}


def client(version: str, service: Service) -> tuple[Environment, str]:
    """py-tes of that version, and the URL of the service as it wants it."""
    # The old one forgets to say that it needs six.
    installed = environment(f"py-tes-{version}", f"py-tes=={version}", "six")
    # The old one puts `/v1` behind its URL, the new one tries what there is.
    suffix = "/v1" if version.startswith("0.") else "/ga4gh/tes/v1"
    return installed, service.url.removesuffix(suffix)


@pytest.fixture(scope="module", params=["1.1.4", "0.4.2"])
def session(request: pytest.FixtureRequest, service: Service) -> dict[str, Any]:
    """What py-tes of that version has seen, and the directory that its tasks wrote to."""
    version: str = request.param
    installed, base = client(version, service)
    directory = service.files / f"py-tes-{version}"
    session = [installed.program("python"), PROGRAMS / "py_tes.py", base, service.image, directory]
    done = subprocess.run(session, stdout=subprocess.PIPE, check=True, timeout=150)
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen | {"directory": directory}


def test_a_step_reads_what_the_one_before_it_wrote(session: dict[str, Any]) -> None:
    assert session["views"]["MINIMAL"]["state"] == "COMPLETE"
    assert (session["directory"] / "second").read_bytes() == b"one\ntwo\n"


def test_each_view_shows_what_it_is_for(session: dict[str, Any]) -> None:
    views = session["views"]
    task_id = session["created"][1]
    assert views["MINIMAL"] == {"id": task_id, "state": "COMPLETE"}
    assert set(views["BASIC"]) == set(views["FULL"]) == BASIC
    [basic], [full] = views["BASIC"]["logs"], views["FULL"]["logs"]
    assert "stdout" not in basic["logs"][0]
    assert full["logs"][0]["stdout"] == "reading\n"
    assert full["logs"][0]["exit_code"] == 0
    assert full["outputs"] == [
        {"url": f"file://{session['directory']}/second", "path": "/out/second", "size_bytes": 8}
    ]
    assert [given.get("content") for given in views["BASIC"]["inputs"]] == [None, None]
    assert [given.get("content") for given in views["FULL"]["inputs"]] == [None, "two\n"]


def test_a_failing_step_is_seen_with_its_exit_code_and_its_log(session: dict[str, Any]) -> None:
    assert session["failed"]["state"] == "EXECUTOR_ERROR"
    [log] = session["failed"]["logs"]
    [executor] = log["logs"]
    assert (executor["exit_code"], executor["stdout"]) == (3, "said before\n")
    assert executor["stderr"] == "in vain\n"


def test_wait_ends_for_a_canceled_task(session: dict[str, Any]) -> None:
    assert session["canceled"]["state"] == "CANCELED"


def test_the_pages_have_each_task_once(session: dict[str, Any]) -> None:
    listed = [task_id for page in session["pages"] for task_id in page]
    assert len(listed) == len(set(listed))
    assert listed[:4] == session["created"][::-1]
    assert {len(page) for page in session["pages"][:-1]} == {3}


@pytest.mark.parametrize("version", ["1.1.4", "0.4.2"])
def test_the_service_says_what_it_is(service: Service, version: str) -> None:
    installed, base = client(version, service)
    ask = "import sys, tes; print(tes.HTTPClient(sys.argv[1]).get_service_info().as_json())"
    info = json.loads(subprocess.check_output([installed.program("python"), "-c", ask, base]))
    assert info["name"] == "raytes"
    assert any(place.startswith("file://") for place in info["storage"])
