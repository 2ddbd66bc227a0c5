"""A lease: a runner that Ray was asked for, until it is gone."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from raytes.runner.actor import AttemptKey

RUNNER_PREFIX = "runner-"
"""Of the names of runners' actors."""


@dataclass(slots=True)
class Lease:
    """A runner, its actor, and the task that it is at."""

    id: str
    actor: Any
    work: asyncio.Event = field(default_factory=asyncio.Event)
    drive: "asyncio.Task[None] | None" = None
    busy: bool = False  # with a task, or on its way to one
    ending: bool = False  # it was told to stop, and is of no use after what it is at
    task: AttemptKey | None = None
    node: str = ""
