"""Fencing off the attempts at a task that came to no good end: whoever was given up may still run.

What an attempt stores appears by one last step from where it was staged. So it is removed from
there; whatever the late one did before that, the next attempt replaces.
"""

import threading

from raytes.attempt import Assignment
from raytes.config import Settings
from raytes.storage import Storage


def fence_off_earlier(assignment: Assignment, storage: Storage, stop: threading.Event) -> None:
    """Take back what the attempts before this one have staged.

    Raises:
        OutputFailed: a store doesn't do it.
        ForbiddenURL: an output's URL is not one that the service may write any more.
        Canceled: `stop` was set.
    """
    if assignment.attempt > 1:
        storage.revoke(
            [output.url for output in assignment.task.outputs or []],
            assignment.task_id,
            range(1, assignment.attempt),
            assignment.receipts,
            stop,
        )


def fence_off_all(given_up: Assignment, settings: Settings) -> None:
    """`fence_off_earlier` for a task that gets no further attempt; `given_up` names the one
    that it would get.
    """
    fence_off_earlier(given_up, Storage(settings.on_this_node()), threading.Event())
