"""A task's document as the database holds it: cut into the parts that views leave out.

The stored document is what BASIC shows, byte for byte; `content` of the inputs, which only
FULL shows, stands beside it. So neither view costs a parse, and no list reads a `content`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
from pydantic import ValidationError

import raytes
from raytes.errors import RaytesError
from raytes.models import TesFileType, TesTask, TesTaskLog, first_mistake


class UnreadableDocument(RaytesError):
    """What is stored of a task isn't what this release stores."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"This task's document can't be read by raytes {raytes.__version__} ({where}): "
            "another release stored it, or it is damaged. Submit it anew."
        )


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be stored: its document in parts, and what lists and dispatch need of it."""

    id: str
    owner: str
    name: str | None
    created: str  # RFC 3339
    shape: str
    document: bytes
    contents: bytes | None
    tags: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()  # lines for the first system log


def split_document(task: TesTask) -> tuple[bytes, bytes | None]:
    """The document without the inputs' contents, and these (None where no input has one)."""
    inputs = task.inputs or []
    document = task.to_json(exclude={"inputs": {"__all__": {"content"}}})
    contents = {
        str(index): item.content for index, item in enumerate(inputs) if item.content is not None
    }
    return document, orjson.dumps(contents) if contents else None


def join_task(document: bytes, contents: bytes | None) -> TesTask:
    """The task as it was submitted.

    Raises:
        UnreadableDocument: it was stored by another release, or is damaged.
    """
    task = _read(document)
    try:
        for index, content in orjson.loads(contents or b"{}").items():
            (task.inputs or [])[int(index)].content = content
    except (ValueError, IndexError, AttributeError) as error:
        raise UnreadableDocument("the contents of its inputs") from error
    return task


def join_types(
    document: bytes, inputs: Mapping[int, TesFileType], outputs: Mapping[int, TesFileType]
) -> TesTask:
    """The stored document with the types that were found on disk.

    Raises:
        UnreadableDocument: it was stored by another release, or is damaged.
    """
    task = _read(document)
    for index, found in inputs.items():
        (task.inputs or [])[index].type = found
    for index, found in outputs.items():
        (task.outputs or [])[index].type = found
    return task


def _read(document: bytes) -> TesTask:
    try:
        return TesTask.model_validate_json(document)
    except ValidationError as error:
        raise UnreadableDocument(first_mistake(error)) from error


def read_log(log: bytes) -> TesTaskLog | None:
    """A stored TaskLog; None if it was stored by another release, or is damaged."""
    try:
        return TesTaskLog.model_validate_json(log)
    except ValidationError:
        return None


def log_json(log: TesTaskLog) -> bytes:
    """The TaskLog without what only FULL shows: the streams' tails and the system logs."""
    return log.to_json(exclude={"system_logs": True, "logs": {"__all__": {"stdout", "stderr"}}})
