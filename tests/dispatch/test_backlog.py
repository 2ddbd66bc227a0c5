"""The backlog, driven as the dispatcher drives it, beside a database that is a dictionary."""

import itertools
from collections import Counter
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from raytes.dispatch.backlog import Backlog
from raytes.store.changes import Pool, Queued

WINDOW = 3
POOLS = [Pool("", "small"), Pool("", "large"), Pool("somebody", "small")]


class World:
    """A backlog, the lanes that it fills, and the database, whose answers take their time."""

    def __init__(self) -> None:
        self.waiting: dict[str, Pool] = {}
        self._numbers = itertools.count()
        self.restart()

    def restart(self) -> None:
        self.backlog = Backlog(WINDOW)
        self.lanes: dict[Pool, set[str]] = {pool: set() for pool in POOLS}
        self.asked: list[tuple[Pool, list[Queued]]] = []
        self.backlog.begin(Counter(self.waiting.values()).items())
        self._ask()

    def create(self, pool: Pool) -> None:
        self.enqueue(Queued(f"{next(self._numbers):05}", pool))

    def enqueue(self, task: Queued) -> None:
        self.waiting[task.id] = task.pool
        self._into_lanes(self.backlog.admit([task]))

    def take(self, pool: Pool) -> Queued | None:
        """Begin the oldest task that the lane has, if it still waits."""
        if not self.lanes[pool]:
            return None
        oldest = min(self.lanes[pool])
        self._leave(oldest, pool)
        if oldest not in self.waiting:  # cancelled while it was being fetched
            return None
        assert oldest == min(task for task, of in self.waiting.items() if of == pool)
        del self.waiting[oldest]
        return Queued(oldest, pool)

    def cancel(self, task_id: str) -> None:
        self._leave(task_id, self.waiting.pop(task_id))

    def answer(self) -> None:
        """The database answers what it was asked first."""
        if self.asked:
            self._into_lanes(self.backlog.fetched(*self.asked.pop(0)))
            self._ask()

    def _leave(self, task_id: str, pool: Pool) -> None:
        if self.backlog.release(task_id):
            self.lanes[pool].remove(task_id)
        self._ask()

    def _ask(self) -> None:
        for pool, after in self.backlog.low():
            younger = sorted(task for task, of in self.waiting.items() if of == pool)
            found = [Queued(task, pool) for task in younger if task > after]
            self.asked.append((pool, found[:WINDOW]))

    def _into_lanes(self, tasks: Iterable[Queued]) -> None:
        for task in tasks:
            assert task.id not in self.lanes[task.pool], "twice in a lane"
            self.lanes[task.pool].add(task.id)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), st.sampled_from(POOLS)),
        st.tuples(st.just("take"), st.sampled_from(POOLS)),
        st.tuples(st.just("cancel"), st.integers(0, 50)),
        st.tuples(st.just("retry"), st.integers(0, 50)),
        st.tuples(st.just("answer"), st.none()),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=80,
)


@given(STEPS)
def test_each_waiting_task_comes_into_its_lane_once_and_the_oldest_first(
    steps: list[tuple[str, Pool | int | None]],
) -> None:
    world = World()
    begun: list[Queued] = []
    for step, choice in steps:
        if step == "create" and isinstance(choice, Pool):
            for _ in range(2):
                world.create(choice)
        elif step == "take" and isinstance(choice, Pool):
            begun += filter(None, [world.take(choice)])
        elif step == "cancel" and isinstance(choice, int) and world.waiting:
            world.cancel(sorted(world.waiting)[choice % len(world.waiting)])
        elif step == "retry" and isinstance(choice, int) and begun:
            world.enqueue(begun.pop(choice % len(begun)))
        elif step == "answer":
            world.answer()
        elif step == "restart":
            world.restart()
    while world.asked or any(world.lanes.values()):
        world.answer()
        for pool in POOLS:
            world.take(pool)
    assert not world.waiting
    assert len(world.backlog) == 0


def test_of_a_long_queue_the_lanes_hold_little() -> None:
    world = World()
    for _ in range(100 * WINDOW):
        world.create(POOLS[0])
    assert len(world.backlog) == 2 * WINDOW
    world.restart()
    world.answer()
    assert len(world.backlog) == WINDOW
