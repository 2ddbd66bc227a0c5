"""Mistakes in what a client sent: each with its field, and a message written for people."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from raytes.errors import RaytesError

# Keys and values of a client that are quoted to it are cut to this many characters: a reply
# must not grow with the size of a mistake.
_QUOTED = 80

_MESSAGES = {
    "missing": "is required",
    "string_type": "must be a string, not {got}",
    "int_type": "must be an integer, not {got}",
    "float_type": "must be a number, not {got}",
    "bool_type": "must be true or false, not {got}",
    "list_type": "must be an array, not {got}",
    "dict_type": "must be an object, not {got}",
    "model_type": "must be an object, not {got}",
    "enum": "must be {expected}",
    "less_than_equal": "must not be greater than {le}",
    "greater_than_equal": "must not be less than {ge}",
    "finite_number": "must be a finite number",
    "int_parsing": "must be an integer",
    "bool_parsing": "must be true or false",
    "int_parsing_size": "must be an integer with fewer digits",
    "too_long": "must not have more than {max_length} values",
}
"""What pydantic's error types are called here. What is not in the table keeps its own words."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """A mistake, and the path of its field (`executors[0].command`; empty: the whole document)."""

    field: str
    message: str


class InvalidDocument(RaytesError):
    """What a client sent is refused; `errors` are all its mistakes."""

    failure_reason = "invalid_document"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = list(errors)
        super().__init__(
            "; ".join(f"{e.field}: {e.message}" if e.field else e.message for e in self.errors)
        )


def shortened(text: str) -> str:
    """The text, not too long."""
    return text if len(text) <= _QUOTED else text[:_QUOTED] + "…"


def quoted(text: str) -> str:
    """The text as it may stand in a message: in quotes, on one line, and not too long."""
    return repr(shortened(text))


def below(path: str, part: str | int) -> str:
    """The path of an item or a member of the field at `path`."""
    if isinstance(part, int):
        return f"{path}[{part}]"
    name = shortened(part)
    return f"{path}.{name}" if path else name


def field_path(parts: Iterable[str | int]) -> str:
    """`("inputs", 2, "path")` as `inputs[2].path`."""
    return reduce(below, parts, "")


def from_pydantic(errors: Iterable[Mapping[str, Any]]) -> list[FieldError]:
    """Pydantic's `errors()` in our words."""
    return [FieldError(field_path(error["loc"]), _message(error)) for error in errors]


def _message(error: Mapping[str, Any]) -> str:
    words = _MESSAGES.get(error["type"])
    if words is None:
        return str(error["msg"])
    return words.format(got=_kind(error.get("input")), **error.get("ctx", {}))


def _kind(value: object) -> str:
    """What a JSON value is, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return f"the number {value}"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
