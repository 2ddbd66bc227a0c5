"""The reconciler: what the store believes, what Ray runs and what is seen to here, compared.

They should agree but for what is under way, and that has changed by the next look. So only what
is found twice running is repaired. Pure: whoever drives it looks, and carries out the repairs.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from raytes.runner.actor import AttemptKey
from raytes.store.changes import Queued, Running

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Found:
    """What there is at one moment."""

    with_runner: frozenset[Running]  # by the database
    waiting: frozenset[Queued]  # by the database, the oldest of them
    actors: frozenset[str]  # the runners that Ray has, by id
    leases: frozenset[str]  # the runners that are leased here
    seen_to: frozenset[AttemptKey]  # the attempts that a lease or somebody else here has
    held: frozenset[str]  # the waiting tasks that are in a lane, or will be


@dataclass(frozen=True, slots=True)
class Repairs:
    """What is to be done."""

    orphans: frozenset[Running]  # attempts that nobody sees to: to be tried again
    strangers: frozenset[str]  # runners that nobody leases: to be ended
    forgotten: frozenset[Queued]  # waiting tasks that no lane knows: to be enqueued
    cancels: frozenset[Running]  # attempts still to be cancelled: their runners are told again


class Reconciler:
    """Remembers what was amiss at the last look."""

    def __init__(self) -> None:
        self._orphans = _Suspects[Running]()
        self._strangers = _Suspects[str]()
        self._forgotten = _Suspects[Queued]()
        self._cancels = _Suspects[Running]()

    def compare(self, found: Found) -> Repairs:
        """What is amiss now and was at the last look."""
        leased = {one for one in found.with_runner if (one.id, one.attempt) in found.seen_to}
        return Repairs(
            orphans=self._orphans.confirmed(found.with_runner - leased),
            strangers=self._strangers.confirmed(found.actors - found.leases),
            forgotten=self._forgotten.confirmed(
                frozenset(task for task in found.waiting if task.id not in found.held)
            ),
            cancels=self._cancels.confirmed(frozenset(one for one in leased if one.canceling)),
        )


class _Suspects(Generic[T]):
    def __init__(self) -> None:
        self._before: frozenset[T] = frozenset()

    def confirmed(self, found: frozenset[T]) -> frozenset[T]:
        """Those of `found` that were found the last time too; they begin anew after it."""
        confirmed = found & self._before
        self._before = found - confirmed
        return confirmed
