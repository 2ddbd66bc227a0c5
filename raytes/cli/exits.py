"""The exit codes of `raytes`, as a script can use them."""

from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytes.models import TesState, TesTask


class Exit(IntEnum):
    """What a command's exit code means."""

    COMPLETE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 69
    SYSTEM_ERROR = 70
    PREEMPTED = 75
    TIMEOUT = 124
    CANCELED = 130


MEANINGS = {
    Exit.COMPLETE: "it worked; every task that was waited for is COMPLETE",
    Exit.FAILED: "a task is EXECUTOR_ERROR (`run`: the command's own exit code), "
    "or the server refused the request",
    Exit.USAGE: "a mistake in the command line or in the task document",
    Exit.UNREACHABLE: "no TES server answers",
    Exit.SYSTEM_ERROR: "a task is SYSTEM_ERROR",
    Exit.PREEMPTED: "a task is PREEMPTED: its node was taken away, and it can be submitted again "
    "(raytes does that itself; other servers don't)",
    Exit.TIMEOUT: "the time that `wait --timeout` gives has run out",
    Exit.CANCELED: "a task is CANCELED, or Ctrl-C",
}

_OF_STATE = {
    "COMPLETE": Exit.COMPLETE,
    "SYSTEM_ERROR": Exit.SYSTEM_ERROR,
    "PREEMPTED": Exit.PREEMPTED,
    "CANCELED": Exit.CANCELED,
    "EXECUTOR_ERROR": Exit.FAILED,
}

# Of several tasks the one that most needs a person's eye decides.
_GRAVEST_FIRST = (Exit.SYSTEM_ERROR, Exit.PREEMPTED, Exit.FAILED, Exit.CANCELED, Exit.COMPLETE)


def of_states(states: "Iterable[TesState]") -> Exit:
    """The exit code for the final states of several tasks."""
    exits = {_OF_STATE[state.value] for state in states}
    return next((code for code in _GRAVEST_FIRST if code in exits), Exit.COMPLETE)


def of_command(task: "TesTask") -> int:
    """The exit code for a task that ran one command: the command's own, where it has one."""
    code = _OF_STATE[task.state.value]
    if code is not Exit.FAILED or not task.logs or not task.logs[-1].logs:
        return code
    own = task.logs[-1].logs[-1].exit_code
    return own if 0 < own < 256 else code
