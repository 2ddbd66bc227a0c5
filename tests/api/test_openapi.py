"""The application's own OpenAPI document, held against the specification's."""

import re
from functools import reduce
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_spec_validator import validate
from starlette.testclient import TestClient

from raytes.api.app import create_app
from raytes.config import Settings
from raytes.models import BASE_PATH
from tests.task_documents import JsonObject

SPECIFICATION = yaml.safe_load(
    (Path(__file__).parent.parent / "tes-1.1.openapi.yaml").read_text(encoding="utf-8")
)

_TEXT = {"type": "string"}
_SERVICE_TYPE = {
    "type": "object",
    "required": ["group", "artifact", "version"],
    "properties": {"group": _TEXT, "artifact": _TEXT, "version": _TEXT},
}
# What the specification refers to at another address: GA4GH service-info 1.0.0.
ELSEWHERE = {
    "ServiceType": _SERVICE_TYPE,
    "Service": {
        "type": "object",
        "required": ["id", "name", "type", "organization", "version"],
        "properties": {
            **dict.fromkeys(
                ["id", "name", "description", "contactUrl", "documentationUrl", "createdAt"], _TEXT
            ),
            **dict.fromkeys(["updatedAt", "environment", "version"], _TEXT),
            "type": _SERVICE_TYPE,
            "organization": {
                "type": "object",
                "required": ["name", "url"],
                "properties": {"name": _TEXT, "url": _TEXT},
            },
        },
    },
}


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(create_app(Settings()), base_url="http://localhost")


@pytest.fixture(scope="module")
def ours(client: TestClient) -> JsonObject:
    document: JsonObject = client.get(f"{BASE_PATH}/openapi.json").json()
    return document


def meaning(schema: JsonObject, document: JsonObject) -> JsonObject:
    """What a schema says of a value, in a form in which two can be compared."""
    schema = resolved(schema, document)
    parts = [meaning(part, document) for part in schema.get("allOf", ())]
    own = {
        "type": schema.get("type"),
        "required": set(schema.get("required", ())),
        "enum": set(schema.get("enum", ())),
        "read-only": schema.get("readOnly", False),
        "properties": {
            name: meaning(field, document) for name, field in schema.get("properties", {}).items()
        },
    }
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), dict):
            own[inner] = meaning(schema[inner], document)
    if schema.get("const"):
        own["enum"] = {schema["const"]}
    return reduce(both, [*parts, own])


def resolved(schema: JsonObject, document: JsonObject) -> JsonObject:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    name = reference.rpartition("/")[2]
    target = (
        document["components"]["schemas"][name] if reference.startswith("#") else ELSEWHERE[name]
    )
    beside = {key: value for key, value in schema.items() if key != "$ref"}
    return {**resolved(target, document), **beside}


def both(one: JsonObject, other: JsonObject) -> JsonObject:
    """What `allOf` makes of two parts."""
    return {
        **one,
        **other,
        "type": other["type"] or one["type"],
        "required": one["required"] | other["required"],
        "enum": one["enum"] | other["enum"],
        "properties": {
            **one["properties"],
            **{
                name: both(one["properties"][name], field) if name in one["properties"] else field
                for name, field in other["properties"].items()
            },
        },
    }


def operations(document: JsonObject) -> dict[tuple[str, str], JsonObject]:
    return {
        (method, path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


def parameters(operation: JsonObject, document: JsonObject) -> dict[tuple[str, str], Any]:
    found = [
        document["components"]["parameters"][each["$ref"].rpartition("/")[2]]
        if "$ref" in each
        else each
        for each in operation.get("parameters", ())
    ]
    # The specification's state is read-only, which is of no meaning to a filter.
    return {
        (each["in"], each["name"]): (
            each.get("required", False),
            {**meaning(each["schema"], document), "read-only": False},
        )
        for each in found
    }


def media_of(holder: JsonObject | None, document: JsonObject) -> JsonObject:
    content = holder["content"] if holder else {}
    return {media: meaning(each["schema"], document) for media, each in content.items()}


def test_it_is_a_valid_openapi_document(ours: JsonObject) -> None:
    validate(ours)
    assert ours["openapi"].startswith("3.")


def test_the_paths_are_those_of_the_specification(ours: JsonObject) -> None:
    assert ours["servers"] == [{"url": BASE_PATH}] == SPECIFICATION["servers"]
    assert operations(ours).keys() == operations(SPECIFICATION).keys()


@pytest.mark.parametrize("key", operations(SPECIFICATION), ids=" ".join)
def test_an_operation_is_the_specifications(ours: JsonObject, key: tuple[str, str]) -> None:
    own, specified = operations(ours)[key], operations(SPECIFICATION)[key]
    assert own["operationId"] == specified["operationId"]
    assert own["tags"] == specified["tags"]
    assert parameters(own, ours) == parameters(specified, SPECIFICATION)
    body, specified_body = own.get("requestBody"), specified.get("requestBody")
    assert media_of(body, ours) == media_of(specified_body, SPECIFICATION)
    assert (body or {}).get("required") == (specified_body or {}).get("required")
    # In YAML the specification's status is a number.
    answer, specified_answer = own["responses"]["200"], specified["responses"][200]
    assert media_of(answer, ours) == media_of(specified_answer, SPECIFICATION)


def test_defaults_are_the_specifications(ours: JsonObject) -> None:
    schemas, specified = ours["components"]["schemas"], SPECIFICATION["components"]["schemas"]
    assert schemas["TesTask"]["properties"]["state"]["default"] == specified["tesState"]["default"]
    strict = "backend_parameters_strict"
    assert (
        schemas["TesResources"]["properties"][strict]["default"]
        is specified["tesResources"]["properties"][strict]["default"]
    )
    listed = operations(ours)["get", "/tasks"]["parameters"]
    defaults = {each["name"]: each["schema"].get("default") for each in listed}
    assert (defaults["view"], defaults["page_size"]) == ("MINIMAL", 256)


def test_every_refusal_is_described_as_a_problem(ours: JsonObject) -> None:
    for operation in operations(ours).values():
        refusals = {k: v for k, v in operation["responses"].items() if k != "200"}
        assert refusals
        for answer in refusals.values():
            assert list(answer["content"]) == ["application/problem+json"]


class _Page(HTMLParser):
    """What of a page would make a browser fetch something, its links and its anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag in ("script", "link", "img", "iframe") or "src" in attributes:
            self.fetched.append(tag)
        if href := attributes.get("href"):
            self.links.append(href)
        if anchor := attributes.get("id"):
            self.anchors.add(anchor)


def test_the_page_shows_every_operation_and_fetches_nothing(
    client: TestClient, ours: JsonObject
) -> None:
    answer = client.get(f"{BASE_PATH}/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = _Page()
    page.feed(answer.text)
    assert page.fetched == []
    assert not re.search(r"url\(|@import|https?://", answer.text)
    for _, path in operations(ours):
        assert f"{BASE_PATH}{path}" in answer.text
    anchors = {link[1:] for link in page.links if link.startswith("#")}
    assert anchors <= page.anchors == set(ours["components"]["schemas"])
    assert [link for link in page.links if not link.startswith("#")] == [
        f"{BASE_PATH}/openapi.json"
    ]
