"""The running service, told everything that a schema or a strategy can think of."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings

from raytes.models import TesState
from tests.images import Images
from tests.service.running import Service
from tests.task_documents import JsonObject, submissions, with_types

ROOT = Path(__file__).parent.parent.parent
RULES = "tests.service.schemathesis_rules"


@pytest.fixture(scope="module")
def target(podman_images: Images) -> Iterator[Service]:
    """A service that runs hardly any of the thousands of tasks that it is given."""
    with tempfile.TemporaryDirectory() as directory:
        service = Service(
            Path(directory) / "state",
            podman_images.busybox,
            RAYTES_DEFAULT_CPU_CORES="1000",
            RAYTES_PULL_POLICY="never",
        ).start()
        yield service
        assert service.stop() == 0


def schemathesis(service: Service, examples: int, directory: Path) -> int:
    """Runs all checks in all phases; how many test cases there were."""
    report = directory / "report.json"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"),
            *("--checks", "all", "--max-examples", str(examples), "--generation-database", "none"),
            *("--report", "json", "--report-json-path", str(report), "--no-color"),
        ],
        env={**os.environ, "SCHEMATHESIS_HOOKS": RULES, "PYTHONPATH": str(ROOT)},
        cwd=directory,  # where it leaves a cache
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    cases: int = orjson.loads(report.read_bytes())["test_cases"]["generated"]
    return cases


def test_no_check_of_schemathesis_fails(target: Service, tmp_path: Path) -> None:
    assert schemathesis(target, examples=15, directory=tmp_path) > 300


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_check_of_schemathesis_fails_in_five_thousand_requests(
    target: Service, tmp_path: Path
) -> None:
    made = 0
    while made < 5000:  # each time others; it tells itself how many are worth while
        made += schemathesis(target, examples=600, directory=tmp_path)


def addressed(document: JsonObject) -> JsonObject:
    """The document with URLs of a store that is enabled."""
    addressed = dict(document)
    for name in ("inputs", "outputs"):
        if name in document:
            addressed[name] = [
                {**item, "url": f"s3://bucket/{name}/{index}"} if "url" in item else item
                for index, item in enumerate(document[name])
            ]
    return addressed


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(submissions.map(addressed))
def test_a_valid_task_is_never_refused_and_shown_as_it_was_sent(
    target: Service, document: JsonObject
) -> None:
    answer = target.post(orjson.dumps(document))
    assert answer.status_code == 200, answer.text
    shown = httpx.get(f"{target.url}/tasks/{answer.json()['id']}?view=FULL").json()
    for name in ("id", "state", "creation_time", "logs"):
        del shown[name]
    assert without_types(shown) == without_types(kept(document))


def kept(document: JsonObject) -> JsonObject:
    """Without the backend parameters, none of which the server knows."""
    if "backend_parameters" not in document.get("resources", {}):
        return document
    return {**document, "resources": {**document["resources"], "backend_parameters": {}}}


def without_types(document: JsonObject) -> JsonObject:
    """Without what the server fills in: from the content at once, from the disk later."""
    filled: dict[str, Any] = with_types(document)
    for name in ("inputs", "outputs"):
        for item in filled.get(name, ()):
            assert item.pop("type") in ("FILE", "DIRECTORY")
    return filled


def test_after_all_that_a_task_is_run(target: Service) -> None:
    task = target.run("echo", "still here", resources={"cpu_cores": 1, "ram_gb": 0.1})
    assert task.state is TesState.COMPLETE
