"""A task's document as the database holds it: cut into the parts that views leave out.

The stored document is what BASIC shows, byte for byte; `content` of the inputs, which only
FULL shows, stands beside it. So neither view costs a parse, and no list reads a `content`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from raytes.models import TesFileType, TesTask, TesTaskLog


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
    """The task as it was submitted."""
    task = TesTask.model_validate_json(document)
    for index, content in orjson.loads(contents or b"{}").items():
        (task.inputs or [])[int(index)].content = content
    return task


def join_types(
    document: bytes, inputs: Mapping[int, TesFileType], outputs: Mapping[int, TesFileType]
) -> TesTask:
    """The stored document with the types that were found on disk."""
    task = TesTask.model_validate_json(document)
    for index, found in inputs.items():
        (task.inputs or [])[index].type = found
    for index, found in outputs.items():
        (task.outputs or [])[index].type = found
    return task


def log_json(log: TesTaskLog) -> bytes:
    """The TaskLog without what only FULL shows: the streams' tails and the system logs."""
    return log.to_json(exclude={"system_logs": True, "logs": {"__all__": {"stdout", "stderr"}}})
