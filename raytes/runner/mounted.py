"""Whether what a container has mounted is what was to be mounted.

Podman mounts by name. Where tasks may write, in a local root that is `rw`, one of them may have put
something else there by the time: a link to what only the node has.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from raytes.errors import InputFailed
from raytes.runner.beneath import Namespace, Outside
from raytes.runner.mounts import Bind
from raytes.storage.below import held
from raytes.storage.local import words


def check_sources(binds: Iterable[Bind]) -> None:
    """Look at what is about to be mounted.

    Raises:
        InputFailed: something else is in its place by now, or nothing.
    """
    for bind in binds:
        try:
            with held(bind.source):
                pass
        except OSError as error:
            raise _changed(bind, words(error)) from error


def check_mounts(binds: Iterable[Bind], pid: int) -> None:
    """Look at what a container has mounted that hasn't been started yet.

    It can have been something else for no longer than it took Podman to mount it.

    Parameters:
        pid: of the container on this node.

    Raises:
        InputFailed: something of it is not what lies there, or can't be looked at. The former
            may pass: no executor of this task runs that could have changed it.
    """
    root = Path(f"/proc/{pid}/root")
    container = Namespace([Bind(root, "/", writable=False)])
    for bind in binds:
        if not os.access(root, os.X_OK):
            raise InputFailed(
                f"the input {bind.destination} can't be mounted: {bind.source} lies where tasks "
                "may write (a local root with rw), and nobody here may look at what the container "
                "has mounted; run Podman's service as the runner's user, among the same processes"
            )
        try:
            with held(bind.source) as meant:
                mounted = container.resolve(bind.destination)
                if mounted is None or not mounted.samefile(meant):
                    raise _swapped(bind, "something else was there while Podman mounted it")
        except Outside as error:
            raise _swapped(bind, str(error)) from error
        except OSError as error:
            raise _swapped(bind, words(error)) from error


def _changed(bind: Bind, why: str) -> InputFailed:
    return InputFailed(
        f"the input {bind.destination} can't be mounted: {bind.source} lies where tasks may write "
        f"(a local root with rw), and is not what it was: {why}"
    )


def _swapped(bind: Bind, why: str) -> InputFailed:
    swapped = _changed(bind, why)
    swapped.transient = True
    return swapped
