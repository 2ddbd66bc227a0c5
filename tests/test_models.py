import pickle
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given
from pydantic import BaseModel, HttpUrl, ValidationError

from raytes import models
from raytes.models import (
    Artifact,
    Organization,
    TesExecutor,
    TesExecutorLog,
    TesFileType,
    TesInput,
    TesListTasksResponse,
    TesOutput,
    TesResources,
    TesServiceInfo,
    TesState,
    TesTask,
    TesTaskLog,
)
from tests.task_documents import JsonObject, stored, with_types

SPECIFICATION = yaml.safe_load((Path(__file__).parent / "tes-1.1.openapi.yaml").read_text())
SCHEMAS: dict[str, JsonObject] = SPECIFICATION["components"]["schemas"]
OBJECTS = {name: schema for name, schema in SCHEMAS.items() if schema.get("type") == "object"}

EXECUTOR = {"image": "alpine", "command": ["true"]}


def model_of(schema_name: str) -> type[BaseModel]:
    model: type[BaseModel] = getattr(models, "T" + schema_name[1:])
    return model


def task(**fields: Any) -> TesTask:
    return TesTask.model_validate({"executors": [EXECUTOR], **fields})


def kind(schema: JsonObject, definitions: JsonObject) -> Any:
    """The JSON type of a schema; of arrays and maps also that of what they hold."""
    for option in schema.get("anyOf", ()):
        if option.get("type") != "null":
            return kind(option, definitions)
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        values = definitions[name].get("enum")
        return sorted(values) if values else name.lower()
    if schema["type"] == "array":
        return "array", kind(schema["items"], definitions)
    if schema["type"] == "object":
        return "object", kind(schema["additionalProperties"], definitions)
    return schema["type"]


@pytest.mark.parametrize("name", OBJECTS)
def test_a_model_has_exactly_the_fields_of_the_specification(name: str) -> None:
    assert set(model_of(name).model_fields) == set(OBJECTS[name].get("properties", {}))


@pytest.mark.parametrize("name", OBJECTS)
def test_a_model_requires_exactly_what_the_specification_requires(name: str) -> None:
    required = {field for field, info in model_of(name).model_fields.items() if info.is_required()}
    assert required == set(OBJECTS[name].get("required", ()))


@pytest.mark.parametrize("name", OBJECTS)
def test_the_types_of_the_fields_are_those_of_the_specification(name: str) -> None:
    ours = model_of(name).model_json_schema()
    for field, theirs in OBJECTS[name].get("properties", {}).items():
        assert kind(ours["properties"][field], ours.get("$defs", {})) == kind(theirs, SCHEMAS)


@pytest.mark.parametrize("name", OBJECTS)
def test_the_defaults_are_those_of_the_specification(name: str) -> None:
    for field, schema in OBJECTS[name].get("properties", {}).items():
        if "$ref" in schema:
            schema = SCHEMAS[schema["$ref"].rpartition("/")[2]]
        info = model_of(name).model_fields[field]
        if not info.is_required():
            assert info.default == schema.get("default")


@pytest.mark.parametrize("name", OBJECTS)
def test_every_field_is_described(name: str) -> None:
    assert model_of(name).__doc__
    assert all(info.description for info in model_of(name).model_fields.values())


@pytest.mark.parametrize(("name", "enum"), [("tesState", TesState), ("tesFileType", TesFileType)])
def test_the_enums_have_the_values_of_the_specification(name: str, enum: Any) -> None:
    assert [member.value for member in enum] == SCHEMAS[name]["enum"]
    assert all(isinstance(member, str) for member in enum)


@given(stored)
def test_a_document_comes_back_as_it_was_sent_but_for_the_types(document: JsonObject) -> None:
    once = TesTask.model_validate(document)
    assert once.to_dict() == with_types(document)
    assert orjson.loads(once.to_json()) == once.to_dict()
    assert TesTask.model_validate_json(once.to_json()) == once


def test_what_was_not_sent_is_not_shown_except_the_type() -> None:
    sent = {"inputs": [{"path": "/in"}], "outputs": [{"path": "/out", "url": "s3://b/o"}]}
    assert task(**sent, resources={}).to_dict() == {
        "executors": [EXECUTOR],
        "inputs": [{"path": "/in", "type": "FILE"}],
        "outputs": [{"path": "/out", "url": "s3://b/o", "type": "FILE"}],
        "resources": {},
    }


def test_what_is_set_later_is_shown() -> None:
    document = task()
    document.state = TesState.QUEUED
    document.logs = [TesTaskLog(logs=[], outputs=[])]
    assert document.to_dict() == {
        "executors": [EXECUTOR],
        "state": "QUEUED",
        "logs": [{"logs": [], "outputs": []}],
    }


def test_an_empty_content_stays_an_empty_string() -> None:
    assert task(inputs=[{"path": "/in", "content": ""}]).to_dict()["inputs"] == [
        {"path": "/in", "type": "FILE", "content": ""}
    ]


@pytest.mark.parametrize("model", [TesTask, TesExecutor, TesInput, TesOutput, TesResources])
def test_null_is_the_same_as_an_absent_field(model: type[models.Document]) -> None:
    required = {
        "path": "/p",
        "url": "s3://b/k",
        **EXECUTOR,
        "executors": [EXECUTOR],
    }
    fields = model.model_fields
    nulls = {name: None for name, info in fields.items() if not info.is_required()}
    needed = {name: required[name] for name, info in fields.items() if info.is_required()}
    assert model.model_validate({**nulls, **needed}) == model.model_validate(needed)
    assert None not in model.model_validate({**nulls, **needed}).to_dict().values()


def test_null_where_a_value_is_required_is_a_missing_value() -> None:
    with pytest.raises(ValidationError) as caught:
        TesExecutor.model_validate({"image": None, "command": ["true"]})
    assert [(e["loc"], e["type"]) for e in caught.value.errors()] == [(("image",), "missing")]


def test_a_tag_without_a_value_has_an_empty_one() -> None:
    assert task(tags={"a": None, "b": "c"}).tags == {"a": "", "b": "c"}


def test_unknown_fields_are_ignored() -> None:
    document = task(unknown=1, resources={"gpus": 2})
    assert document.to_dict() == {"executors": [EXECUTOR], "resources": {}}


@pytest.mark.parametrize(("sent", "read"), [(4, 4), (4.0, 4), (1000, 1000), (-0.0, 0)])
def test_a_whole_number_is_an_integer(sent: float, read: int) -> None:
    cores = TesResources.model_validate({"cpu_cores": sent}).cpu_cores
    assert cores == read
    assert type(cores) is int


@pytest.mark.parametrize("sent", ["4", 4.5, True, 2**31, -(2**31) - 1, 1e30, float("inf"), [4]])
def test_anything_else_is_no_32_bit_integer(sent: Any) -> None:
    with pytest.raises(ValidationError):
        TesResources.model_validate({"cpu_cores": sent})


@pytest.mark.parametrize("sent", ["8", True, float("nan"), float("inf"), 10**400])
def test_gigabytes_are_a_finite_number(sent: Any) -> None:
    with pytest.raises(ValidationError):
        TesResources.model_validate({"ram_gb": sent})


@pytest.mark.parametrize(
    "field",
    [
        {"name": 5},
        {"name": ["a"]},
        {"tags": {"a": 5}},
        {"tags": ["a"]},
        {"volumes": "/v"},
        {"volumes": [5]},
        {"resources": {"preemptible": 1}},
        {"resources": {"preemptible": "true"}},
        {"executors": {}},
        {"inputs": [{"path": "/a", "type": "file"}]},
        {"state": "WAITING"},
    ],
)
def test_a_value_of_another_json_type_is_refused(field: JsonObject) -> None:
    with pytest.raises(ValidationError):
        task(**field)


def test_an_attempt_always_has_its_two_lists() -> None:
    with pytest.raises(ValidationError):
        TesTaskLog.model_validate({})
    assert TesTaskLog(logs=[], outputs=[]).to_dict() == {"logs": [], "outputs": []}


def test_an_exit_code_of_zero_is_shown() -> None:
    assert TesExecutorLog(exit_code=0).to_json() == b'{"exit_code":0}'


def test_the_last_page_has_no_token() -> None:
    assert TesListTasksResponse(tasks=[]).to_json() == b'{"tasks":[]}'


SERVICE = {
    "id": "org.ga4gh.myservice",
    "name": "My project",
    "type": {"group": "org.ga4gh", "artifact": "tes", "version": "1.1.0"},
    "description": "This service provides...",
    "organization": {"name": "My organization", "url": "https://example.com"},
    "contactUrl": "mailto:support@example.com",
    "documentationUrl": "https://docs.myservice.example.com",
    "createdAt": "2019-06-04T12:58:19Z",
    "updatedAt": "2019-06-04T12:58:19Z",
    "environment": "test",
    "version": "1.0.0",
    "storage": ["file:///path/to/local/funnel-storage", "s3://ohsu-compbio-funnel/storage"],
    "tesResources_backend_parameters": ["VmSize"],
}


def test_the_examples_of_service_info_come_back_as_they_were() -> None:
    info = TesServiceInfo.model_validate(SERVICE)
    assert info.type.artifact is Artifact.tes
    assert info.to_dict() == SERVICE
    assert orjson.loads(info.to_json()) == SERVICE


@pytest.mark.parametrize("name", ["id", "name", "type", "organization", "version"])
def test_service_info_requires_what_its_specification_requires(name: str) -> None:
    with pytest.raises(ValidationError):
        TesServiceInfo.model_validate({**SERVICE, name: None})


def test_times_of_a_service_are_shown_in_utc() -> None:
    moment = datetime(2020, 10, 2, 10, tzinfo=timezone(timedelta(hours=-5)))
    info = TesServiceInfo.model_validate({**SERVICE, "createdAt": moment})
    assert info.to_dict()["createdAt"] == "2020-10-02T15:00:00Z"


def test_a_time_without_an_offset_is_refused() -> None:
    with pytest.raises(ValidationError):
        TesServiceInfo.model_validate({**SERVICE, "createdAt": "2020-10-02T10:00:00"})


def test_a_url_of_the_settings_can_be_shown() -> None:
    organization = Organization(name="x", url=HttpUrl("https://example.com/lab"))
    assert organization.to_json() == b'{"name":"x","url":"https://example.com/lab"}'


def test_a_document_travels_between_processes_with_what_was_set() -> None:
    document = task(inputs=[{"path": "/in", "content": ""}], name=None)
    assert pickle.loads(pickle.dumps(document)).to_json() == document.to_json()


def test_a_runner_can_import_the_models_without_the_web_framework() -> None:
    program = "import sys, raytes.models; print(*sys.modules, sep='\\n')"
    root = Path(models.__file__).parents[1]
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=root
    ).stdout.split()
    assert not {"fastapi", "starlette", "email_validator", "ray"} & set(loaded)
