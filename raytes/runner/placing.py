"""Places of a mount plan, come to without following a link that somebody has left there.

Even while no container of the task runs: a local root that is writable is others' too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raytes.runner.mounts import MountPlan
from raytes.storage.below import entered


@contextmanager
def parent_of(plan: MountPlan, place: Path) -> Iterator[Path]:
    """The directory that a place of the plan is in, as `entered` gives it.

    Raises:
        ThroughLink: there is a link on the way from the root of its mount.
        OSError: it can't be made.
    """
    root = plan.bind_of(place).source.parent
    root.mkdir(parents=True, exist_ok=True)
    with entered(root, place.parent.relative_to(root)) as parent:
        yield parent
