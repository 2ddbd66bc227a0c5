"""The backlog: which of the waiting tasks are in the lanes, and which in the database alone.

A million tasks may wait, and memory is not for them. Of each pool the lanes hold the oldest;
the rest is fetched, in the order of its age, before they run dry. So the first task of a lane
is always its pool's oldest.

Pure: whoever drives it fetches what `low` names and hands it to `fetched`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from raytes.store.changes import Pool, Queued

WINDOW = 1024
"""How many tasks of a pool are fetched at once, and below how many more are. A lane of 1,024 goes
on for a second at the rate of the quickest tasks there are; fetching takes milliseconds."""


@dataclass(slots=True)
class _Window:
    """What the lanes hold of a pool."""

    held: int = 0
    last: str = ""  # the youngest that came into the lanes: all that are older came too
    more: bool = False  # the database may have younger ones
    fetching: bool = False
    late: list[Queued] = field(default_factory=list)  # came meanwhile: not in what is fetched


class Backlog:
    """All tasks that wait."""

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._pools: dict[Pool, _Window] = {}
        self._held: dict[str, Queued] = {}
        self.count = 0
        """Of the tasks that wait, wherever they are; kept by who knows what became of them."""

    def __len__(self) -> int:
        """How many tasks the lanes hold."""
        return len(self._held)

    def __contains__(self, task: Queued) -> bool:
        """Whether a task is in the lanes, or will be without being named again."""
        window = self._pools.get(task.pool)
        if task.id in self._held:
            return True
        return window is not None and (
            window.fetching or (window.more and task.id > window.last) or task in window.late
        )

    def pools(self) -> list[Pool]:
        """The pools that have tasks."""
        return list(self._pools)

    def begin(self, waiting: Iterable[tuple[Pool, int]]) -> None:
        """What the database has at the start, none of it in the lanes yet."""
        for pool, count in waiting:
            self._pools[pool] = _Window(more=True)
            self.count += count

    def admit(self, tasks: Iterable[Queued]) -> Iterator[Queued]:
        """Tasks that are in the database and wait: those that go into the lanes now."""
        for task in tasks:
            window = self._pools.setdefault(task.pool, _Window())
            if task.id in self._held:
                continue
            if window.fetching and task.id > window.last:
                window.late.append(task)
            elif task.id > window.last and (window.more or window.held >= 2 * self._window):
                window.more = True
            else:
                yield self._hold(window, task)

    def release(self, task_id: str) -> Queued | None:
        """A task leaves the lanes: a runner has it, or it waits no more. None if it wasn't
        there."""
        task = self._held.pop(task_id, None)
        if task is not None:
            window = self._pools[task.pool]
            window.held -= 1
            if not window.held and not window.more:
                del self._pools[task.pool]
        return task

    def low(self) -> Iterator[tuple[Pool, str]]:
        """The pools to fetch now, each with the id behind which to go on."""
        for pool, window in self._pools.items():
            if window.more and not window.fetching and window.held < self._window:
                window.fetching = True
                yield pool, window.last

    def fetched(self, pool: Pool, tasks: list[Queued]) -> Iterator[Queued]:
        """The oldest of a pool behind the id that `low` gave, `WINDOW` of them if there are so
        many: they go into the lanes now."""
        window = self._pools[pool]
        late, window.late = window.late, []
        window.fetching, window.more = False, len(tasks) >= self._window
        for task in tasks:
            if task.id not in self._held:
                yield self._hold(window, task)
        yield from self.admit(late)
        if not window.held and not window.more:
            del self._pools[pool]

    def _hold(self, window: _Window, task: Queued) -> Queued:
        self._held[task.id] = task
        window.held += 1
        window.last = max(window.last, task.id)
        return task
