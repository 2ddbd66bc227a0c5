"""From the body of a request to a task that can be stored, or to all that is wrong with it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson
from pydantic import ValidationError

from raytes.api import parameters
from raytes.api.invalid import FieldError, InvalidDocument, from_pydantic, quoted
from raytes.api.rules import Rules
from raytes.models import JsonObject, TesFileType, TesTask

__all__ = ["FieldError", "InvalidDocument", "Submission", "parse_task"]

# The server's own fields: whatever a client sends in them is ignored.
_READ_ONLY = ("id", "state", "logs", "creation_time")

_GZIP = b"\x1f\x8b"  # that it begins with, and no JSON does

# Each JSON value can be a mistake, and a mistake costs about half a kilobyte of memory until
# the reply is sent: beyond these numbers a document isn't looked at, or not in detail.
_MAX_VALUES = 500_000
_MAX_MISTAKES = 1_000


@dataclass(frozen=True, slots=True)
class Submission:
    """A task as it is to be stored, and what its system logs have to say from the start."""

    task: TesTask
    warnings: tuple[str, ...]


def parse_task(
    body: bytes,
    content_type: str | None,
    *,
    max_document_bytes: int,
    max_content_bytes: int,
    check_input_url: Callable[[str], str | None],
    check_output_url: Callable[[str], str | None],
    supported_parameters: parameters.Supported,
) -> Submission:
    """The task in the body of a CreateTask request.

    Parameters:
        content_type: the header of that name. Where there is none, the body is taken for JSON.
        max_document_bytes: the largest body.
        max_content_bytes: the largest `content` of one input, in bytes of UTF-8.
        check_input_url: says why a URL can't be an input, or None.
        check_output_url: says why a URL can't be an output, or None.
        supported_parameters: the backend parameters that are supported.

    Raises:
        InvalidDocument: the document has mistakes; all of them are named.
    """
    document = _read(body, content_type, max_document_bytes)
    rules = Rules(max_content_bytes, check_input_url, check_output_url, supported_parameters)
    task = _typed(document, rules)
    return _cleaned(task, supported_parameters)


def _read(body: bytes, content_type: str | None, max_bytes: int) -> JsonObject:
    """The JSON object in the body, without the server's own fields."""
    if wrong := _wrong_with_body(body, content_type, max_bytes):
        raise InvalidDocument([FieldError("", wrong)])
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidDocument([FieldError("", f"the body is not JSON: {error}")]) from None
    if not isinstance(document, dict):
        raise InvalidDocument([FieldError("", "the body must be a JSON object")])
    if body.count(b",") > _MAX_VALUES and _has_more_values(document, _MAX_VALUES):
        raise InvalidDocument(
            [FieldError("", f"the document has more than {_MAX_VALUES} JSON values")]
        )
    return {name: value for name, value in document.items() if name not in _READ_ONLY}


def _wrong_with_body(body: bytes, content_type: str | None, max_bytes: int) -> str | None:
    media_type = (content_type or "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json":
        return f"the Content-Type must be application/json, not {quoted(media_type)}"
    if len(body) > max_bytes:
        return f"the document is too large: this server takes at most {max_bytes} bytes"
    if not body or body.isspace():
        return "the body is empty: it must be a task in JSON"
    if body.startswith(_GZIP):
        return "the body is compressed (gzip), which this server doesn't take: send it as it is"
    return None


def _has_more_values(document: Any, limit: int) -> bool:
    seen, pending = 0, [document]
    while pending and seen <= limit:
        value = pending.pop()
        items = value.values() if isinstance(value, dict) else value
        seen += len(items)
        pending.extend(item for item in items if isinstance(item, dict | list))
    return seen > limit


def _typed(document: JsonObject, rules: Rules) -> TesTask:
    """The document as a task, or all its mistakes, of types and of rules, one for a field."""
    try:
        task, mistakes = TesTask.model_validate(document), list[FieldError]()
    except ValidationError as error:
        task, mistakes = None, _type_mistakes(error)
    reported = {mistake.field for mistake in mistakes}
    broken = (mistake for mistake in rules.broken_by(document) if mistake.field not in reported)
    mistakes += islice(_once(broken), _MAX_MISTAKES - len(mistakes))
    if task is None or mistakes:
        raise InvalidDocument(mistakes)
    return task


def _type_mistakes(error: ValidationError) -> list[FieldError]:
    count = error.error_count()
    if count >= _MAX_MISTAKES:
        return [FieldError("", f"{count} values have a wrong type: this is no TES task")]
    return from_pydantic(error.errors(include_url=False))


def _once(mistakes: Iterator[FieldError]) -> Iterator[FieldError]:
    """The first mistake of each field."""
    seen: set[str] = set()
    for mistake in mistakes:
        if mistake.field not in seen:
            seen.add(mistake.field)
            yield mistake


def _cleaned(task: TesTask, supported: parameters.Supported) -> Submission:
    """The task with only what the server knows."""
    for item in task.inputs or []:
        if item.content:
            item.type = TesFileType.FILE
    if task.resources is None or task.resources.backend_parameters is None:
        return Submission(task, ())
    asked = task.resources.backend_parameters
    task.resources.backend_parameters = parameters.kept(asked, supported)
    return Submission(task, parameters.warnings(asked, supported))
