"""What the OpenAPI document can't say, told to schemathesis: hooks that it loads by itself.

No check is switched off. A failure is dropped only where one of the rules here, held against
what was sent and what was answered, says that the server was right.
"""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import JsonSchemaError, RejectedPositiveData

from raytes.config import MAX_CPU_CORES, MAX_DISK_GB, MAX_RAM_GB

READ_ONLY = {"id", "state", "logs", "creation_time"}
MAPS = ("env", "tags", "backend_parameters")
ANY_TEXT = {"name_prefix", "tag_key", "tag_value"}


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext,
    failure: Failure,
    case: schemathesis.Case,
    response: schemathesis.Response,
) -> bool:
    """Whether it is a failure."""
    match failure:
        case RejectedPositiveData():
            return not all(is_against_a_rule(case, **error) for error in mistakes(response))
        case AcceptedNegativeData():
            return not (is_valid_without_nulls(case) or is_any_text(response))
        case JsonSchemaError():
            return not is_minimal(response)
    return True


# --- refused, though the document's schema has nothing against it ---------------------


def mistakes(response: schemathesis.Response) -> list[dict[str, str]]:
    found: list[dict[str, str]] = response.json()["errors"]
    assert found, "a refusal that doesn't say why"
    return found


def is_against_a_rule(case: schemathesis.Case, field: str, message: str) -> bool:
    if field == "page_token":  # only the server can have made one
        return True
    rules = [rule for pattern, rule in RULES.items() if re.fullmatch(pattern, message, re.DOTALL)]
    return bool(rules) and rules[0](value_at(case.body, field))


def value_at(body: Any, field: str) -> Any:
    """The value of a field; of what is in a map (`env` …) the map."""
    value = body
    for name, index in re.findall(r"([a-z_]+)|\[(\d+)\]", field):
        value = value[int(index)] if index else value.get(name)
        if name in MAPS or (value is None and name != field):
            break
    return value


def strings(value: Any) -> list[str]:
    return [*value, *value.values()] if isinstance(value, dict) else [value]


def is_no_plain_url(url: str) -> bool:
    """What the enabled schemes and roots accept besides is the storage's own business."""
    return not re.fullmatch(r"(s3|gs)://[a-z0-9-]{3,60}/[A-Za-z0-9/]*[A-Za-z0-9]", url)


RULES: dict[str, Callable[[Any], bool]] = {
    "must have at least one executor": lambda value: value == [],
    "must have at least the program to run": lambda value: value == [],
    "must name the program to run": lambda value: value == "",
    "must not be empty": lambda value: not value.strip(),
    "must be an absolute path.*": lambda value: not value.startswith("/"),
    "must not have .. as a component": lambda value: ".." in value.split("/"),
    "must not be / itself.*": lambda value: set(value.split("/")) <= {"", "."},
    "must not contain a NUL character": lambda value: any("\0" in text for text in strings(value)),
    "must not be negative": lambda value: value < 0,
    f"must not be greater than {MAX_CPU_CORES}": lambda value: value > MAX_CPU_CORES,
    f"must not be greater than {MAX_RAM_GB}": lambda value: value > MAX_RAM_GB,
    f"must not be greater than {MAX_DISK_GB}": lambda value: value > MAX_DISK_GB,
    "must not have a variable without a name": lambda value: "" in value,
    "must not have an = in its name": lambda value: any("=" in name for name in value),
    "must be the name of a zone.*": lambda value: (
        not re.fullmatch(r"[\w.-]{1,63}", value, re.A) or not (value[0] + value[-1]).isalnum()
    ),
    "is required where there is no content": lambda value: not value,
    "is required where the path has wildcards": lambda value: not value,
    "must be how the path begins.*": lambda value: bool(value),
    "is the path of inputs.* too|is below inputs.*, which is a file": lambda value: bool(value),
    ".* is not a backend parameter that this server supports.*": lambda value: bool(value),
    "is not a backend parameter that this server supports.*": lambda value: bool(value),
    ".*can't be used.*": is_no_plain_url,
}
"""Messages, and what must then be true of the value."""


# --- accepted, though the document's schema has something against it ------------------


def is_valid_without_nulls(case: schemathesis.Case) -> bool:
    """`null` is the same as absent, and what only the server sets may be anything."""
    if not isinstance(case.body, dict):
        return False
    sent = {name: value for name, value in case.body.items() if name not in READ_ONLY}
    document = case.operation.schema.raw_schema
    schema = {"$ref": "#/components/schemas/TesTask", "components": document["components"]}
    return bool(jsonschema.Draft202012Validator(schema).is_valid(without_nulls(sent)))


def is_any_text(response: schemathesis.Response) -> bool:
    """A query is text: of a number in it a valid text is sent, and of an empty list nothing. These
    parameters may be any text."""
    sent = parse_qs(urlsplit(response.request.url).query, keep_blank_values=True)
    return response.request.method == "GET" and sent.keys() <= ANY_TEXT


def without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: {key: tag or "" for key, tag in item.items()}
        if name == "tags" and isinstance(item, dict)
        else item
        if name == "env"
        else without_nulls(item)
        for name, item in value.items()
        if item is not None
    }


# --- answered otherwise than the document's schema has it -----------------------------


def is_minimal(response: schemathesis.Response) -> bool:
    """MINIMAL is the id and the state alone, though a task requires its executors."""
    views = parse_qs(urlsplit(response.request.url).query).get("view", ["MINIMAL"])
    answer = response.json()
    tasks = answer.get("tasks", [answer])
    return views[-1] == "MINIMAL" and all(task.keys() == {"id", "state"} for task in tasks)
