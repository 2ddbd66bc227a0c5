import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytes.models import TesTask
from raytes.views import View, view_dict, view_json
from tests.task_documents import JsonObject, stored

EVERYTHING = {
    "id": "job-1",
    "state": "COMPLETE",
    "name": "all",
    "description": "every field there is",
    "creation_time": "2020-10-02T10:00:00-05:00",
    "inputs": [
        {
            "name": "in",
            "description": "an input",
            "url": "s3://b/in",
            "path": "/in",
            "type": "FILE",
            "content": "literal",
            "streamable": True,
        }
    ],
    "outputs": [
        {
            "name": "out",
            "description": "an output",
            "url": "s3://b/out/",
            "path": "/out/*",
            "path_prefix": "/out/",
            "type": "FILE",
        }
    ],
    "resources": {
        "cpu_cores": 4,
        "preemptible": False,
        "ram_gb": 8.0,
        "disk_gb": 40.0,
        "zones": ["z1"],
        "backend_parameters": {"VmSize": "large"},
        "backend_parameters_strict": False,
    },
    "executors": [
        {
            "image": "alpine",
            "command": ["true"],
            "workdir": "/data",
            "stdin": "/in",
            "stdout": "/out/o",
            "stderr": "/out/e",
            "env": {"A": "1"},
            "ignore_error": False,
        }
    ],
    "volumes": ["/vol"],
    "tags": {"k": "v"},
    "logs": [
        {
            "logs": [
                {
                    "start_time": "2020-10-02T10:00:00-05:00",
                    "end_time": "2020-10-02T11:00:00-05:00",
                    "stdout": "o",
                    "stderr": "e",
                    "exit_code": 0,
                }
            ],
            "metadata": {"node": "n"},
            "start_time": "2020-10-02T10:00:00-05:00",
            "end_time": "2020-10-02T11:00:00-05:00",
            "outputs": [{"url": "s3://b/out/o", "path": "/out/o", "size_bytes": "1"}],
            "system_logs": ["staged in"],
        }
    ],
}


ONLY_IN_FULL = re.compile(
    r"inputs\[\d+\]\.content|logs\[\d+\]\.(system_logs.*|logs\[\d+\]\.(stdout|stderr))"
)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every value of a document that holds no other, by its path."""
    if not value or not isinstance(value, dict | list):
        return {path: value}
    found: dict[str, Any] = {}
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        step = f"[{key}]" if isinstance(value, list) else f".{key}"
        found |= leaves(item, (path + step).lstrip("."))
    return found


def test_minimal_is_exactly_id_and_state() -> None:
    task = TesTask.model_validate(EVERYTHING)
    assert view_dict(task, View.MINIMAL) == {"id": "job-1", "state": "COMPLETE"}


def test_basic_is_all_but_content_tails_and_system_logs() -> None:
    task = TesTask.model_validate(EVERYTHING)
    hidden = leaves(EVERYTHING).keys() - leaves(view_dict(task, View.BASIC)).keys()
    assert hidden == {
        "inputs[0].content",
        "logs[0].system_logs[0]",
        "logs[0].logs[0].stdout",
        "logs[0].logs[0].stderr",
    }


def test_full_is_everything() -> None:
    assert view_dict(TesTask.model_validate(EVERYTHING), View.FULL) == EVERYTHING


@given(stored)
def test_basic_hides_what_only_full_shows_and_nothing_else(document: JsonObject) -> None:
    task = TesTask.model_validate(document)
    basic, full = leaves(view_dict(task, View.BASIC)), leaves(view_dict(task, View.FULL))
    assert basic == {path: v for path, v in full.items() if not ONLY_IN_FULL.fullmatch(path)}


@given(stored)
def test_minimal_has_two_fields_at_any_moment(document: JsonObject) -> None:
    shown = view_dict(TesTask.model_validate(document), View.MINIMAL)
    assert shown == {"id": document["id"], "state": document["state"]}


@given(stored, st.sampled_from(View))
def test_a_view_as_bytes_is_the_view_as_values(document: JsonObject, view: View) -> None:
    task = TesTask.model_validate(document)
    assert orjson.loads(view_json(task, view)) == view_dict(task, view)


@pytest.mark.parametrize("view", View)
def test_cutting_leaves_the_task_as_it_was(view: View) -> None:
    task = TesTask.model_validate(EVERYTHING)
    view_dict(task, view)
    assert task.to_dict() == EVERYTHING
