"""The runners that a plan can count on: those that are free, and those that Ray was asked for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from raytes.dispatch.shape import Shape

BOOT_S = 15.0
"""A runner that should fit but hasn't come up for so long is taken to be waiting for
resources that somebody else on the cluster holds."""


@dataclass(slots=True)
class Runner:
    """A runner as the lanes see it: asked for, then on a node and idle or at a task."""

    id: str
    shape: Shape
    asked: float  # when Ray was asked for it
    without: frozenset[str] = frozenset()  # the nodes where it can't be
    node: str | None = None  # None: not up yet
    up: float = 0.0  # when it came up
    idle_since: float | None = None  # None: at a task, or not up yet

    @property
    def pending(self) -> bool:
        return self.node is None


@dataclass(frozen=True, slots=True)
class Counted:
    """What can be expected of runners that aren't up yet."""

    placed: int  # so many will come up now
    stuck: list[str]  # those that wait for resources
    surplus: list[str]  # those of no use: as many as may wait do so without them


class Supply:
    """The runners that have no task, until a lane counts on them."""

    def __init__(self, runners: Iterable[Runner]) -> None:
        runners = list(runners)
        self.idle = [runner for runner in runners if runner.idle_since is not None]
        self._pending = [runner for runner in runners if runner.pending]

    def take_idle(self, most: int, able: Callable[[Runner], bool]) -> list[str]:
        """Count on up to so many idle ones; their ids."""
        taken = list(islice(filter(able, self.idle), most))
        self.idle = [runner for runner in self.idle if runner not in taken]
        return [runner.id for runner in taken]

    def count_on_pending(
        self,
        most: int,
        *,
        able: Callable[[Runner], bool],
        reserve: Callable[[Runner], bool],
        may_wait: int,
        now: float,
    ) -> Counted:
        """Count on up to so many that aren't up yet, of those that were asked for first.

        Parameters:
            able: whether one will do.
            reserve: sets room for one aside, and says whether there was any.
            may_wait: so many of those that there is no room for.
        """
        placed, stuck, surplus = 0, list[str](), list[str]()
        while placed + len(stuck) < most and (runner := self._take_pending(able)):
            # Its room is taken also if it is late: to ask for another in its place, and let it
            # go as one too many, would go on for ever.
            has_room = reserve(runner)
            if has_room and now - runner.asked < BOOT_S:
                placed += 1
            elif has_room or len(stuck) < may_wait:
                stuck.append(runner.id)
            else:
                surplus.append(runner.id)
        return Counted(placed, stuck, surplus)

    def pending(self) -> list[str]:
        """Those that aren't up yet and that nobody counts on."""
        return [runner.id for runner in self._pending]

    def _take_pending(self, able: Callable[[Runner], bool]) -> Runner | None:
        taken = next(filter(able, self._pending), None)
        if taken is not None:
            self._pending.remove(taken)
        return taken
