"""The states of a task, and which may follow which: one table, and nothing decides but it.

A task is a series of attempts. Within an attempt its state only moves forward; going back
to QUEUED closes the attempt and is the only way to the next one.
"""

from raytes.models import TesState

_S = TesState

_FOLLOWERS: dict[TesState, frozenset[TesState]] = {
    # SYSTEM_ERROR from QUEUED: no node could ever satisfy the request.
    _S.QUEUED: frozenset({_S.INITIALIZING, _S.CANCELED, _S.SYSTEM_ERROR}),
    _S.INITIALIZING: frozenset(
        {_S.RUNNING, _S.QUEUED, _S.CANCELING, _S.COMPLETE, _S.EXECUTOR_ERROR, _S.SYSTEM_ERROR}
    ),
    _S.RUNNING: frozenset(
        {_S.QUEUED, _S.CANCELING, _S.COMPLETE, _S.EXECUTOR_ERROR, _S.SYSTEM_ERROR}
    ),
    # What was cancelled stays so, whatever its runner still says.
    _S.CANCELING: frozenset({_S.CANCELED}),
    _S.COMPLETE: frozenset(),
    _S.EXECUTOR_ERROR: frozenset(),
    _S.SYSTEM_ERROR: frozenset(),
    _S.CANCELED: frozenset(),
}

FINAL = frozenset(state for state, followers in _FOLLOWERS.items() if not followers)
"""The states that nothing follows."""

WITH_RUNNER = frozenset({_S.INITIALIZING, _S.RUNNING, _S.CANCELING})
"""The states of a task whose current attempt a runner has been given."""


def predecessors(after: TesState) -> frozenset[TesState]:
    """The states from which a task may go to `after`."""
    return frozenset(before for before, followers in _FOLLOWERS.items() if after in followers)
