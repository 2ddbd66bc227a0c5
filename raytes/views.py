"""The three views of a task: what of its document a client is shown.

The store keeps documents cut into pieces so that a view costs no parsing; these functions
are the definition that its pieces, put together, must agree with.
"""

from enum import StrEnum
from typing import Any

from raytes.models import JsonObject, TesTask


class View(StrEnum):
    """How much of a task is shown (TES 1.1, parameter `view`)."""

    MINIMAL = "MINIMAL"
    """`id` and `state`, and nothing else."""
    BASIC = "BASIC"
    """All but executors' stdout and stderr, inputs' content and system logs."""
    FULL = "FULL"
    """All."""


# What pydantic is told to include or to exclude.
_CUTS: dict[View, dict[str, Any]] = {
    View.MINIMAL: {"include": {"id", "state"}},
    View.BASIC: {
        "exclude": {
            "inputs": {"__all__": {"content"}},
            "logs": {"__all__": {"system_logs": True, "logs": {"__all__": {"stdout", "stderr"}}}},
        }
    },
    View.FULL: {},
}


def view_dict(task: TesTask, view: View) -> JsonObject:
    """What `view` shows of the task, as JSON values."""
    return task.to_dict(**_CUTS[view])


def view_json(task: TesTask, view: View) -> bytes:
    """What `view` shows of the task, as JSON in UTF-8."""
    return task.to_json(**_CUTS[view])
