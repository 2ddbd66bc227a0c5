"""What a request's path and query may say, with the words of the OpenAPI document."""

from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from raytes.models import TesState
from raytes.views import View

DEFAULT_PAGE_SIZE = 256
MAX_PAGE_SIZE = 2047
MAX_TAG_FILTERS = 32


def _searchable(text: str) -> str:
    """Names and tags have no NUL, because not every database takes one in text."""
    if "\0" in text:
        raise PydanticCustomError("nul", "must not contain a NUL character")
    return text


_Text = Annotated[
    str, AfterValidator(_searchable), Field(json_schema_extra={"pattern": r"^[^\x00]*$"})
]

TaskId = Annotated[str, Path(description="The task's identifier.")]
ViewParameter = Annotated[
    View,
    Query(
        description="MINIMAL: `id` and `state` only. BASIC: all but the executors' stdout and "
        "stderr, the inputs' content and the system logs. FULL: all."
    ),
]
NamePrefix = Annotated[_Text, Query(description="Only tasks whose name begins so.")]
StateFilter = Annotated[TesState | None, Query(description="Only tasks in this state.")]
TagKeys = Annotated[
    list[_Text],
    Query(
        description="Only tasks with a tag of this key; several: with all of them.",
        max_length=MAX_TAG_FILTERS,
    ),
]
TagValues = Annotated[
    list[_Text],
    Query(
        description="The values of these tags, in the order of the keys. An empty or missing one "
        "is any value."
    ),
]
PageSize = Annotated[
    int, Query(ge=1, le=MAX_PAGE_SIZE, description="The most tasks in one answer.")
]
PageToken = Annotated[
    str,
    Query(description="`next_page_token` of the answer before, with the same filters as there."),
]
