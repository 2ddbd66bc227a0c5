"""Places of a mount plan, come to without following a link that somebody has left there.

Even while no container of the task runs: a local root that is writable is others' too, and
so is the whole way to what an earlier executor had mounted from there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raytes.storage.below import entered


@contextmanager
def parent_of(place: Path) -> Iterator[Path]:
    """The directory that a place of a plan is in, as `entered` gives it.

    Raises:
        ThroughLink: there is a link on the way.
        OSError: it can't be made.
    """
    root = Path(place.anchor)
    with entered(root, place.parent.relative_to(root)) as parent:
        yield parent
