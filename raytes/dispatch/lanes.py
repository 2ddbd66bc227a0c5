"""Lanes: the queued tasks and the runners of each resource shape, and who gets what next.

Pure policy: no clock of its own, no Ray. Whoever drives it tells what happened and carries
out what `plan` says.

A runner that is free takes the oldest task of its lane. When the oldest task of all waits
for resources that other lanes' runners hold, its lane lays a claim to one node: the other
lanes' runners there go on for a slice, then give way one by one until the task fits.
Meanwhile no younger lane asks Ray for a runner on that node, nor for one that fits nowhere,
so that what is given back can't be snatched away.

On a closed node (one that is ill, or being drained) nothing is begun: runners that are free
there go, and what no other node can hold waits. A task that failed on a node is wary of it for
a while, as long as another one could hold it.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from raytes.dispatch.shape import Node, Shape, fits

BOOT_S = 15.0
"""A runner that should fit but hasn't come up for so long is taken to be waiting for
resources that somebody else on the cluster holds."""

WARY_S = 30.0
"""So long a task that failed on a node waits rather than run there again."""

_TOLD_AT_ONCE = 100  # tasks of a lane; of a million that wait for a node, the oldest


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
class Wariness:
    """A task keeps away from a node for a while."""

    node: str
    until: float


@dataclass(slots=True)
class Lane:
    """All that is of one shape."""

    shape: Shape
    queue: list[str] = field(default_factory=list)  # a heap of ids: the oldest first
    removed: set[str] = field(default_factory=set)  # of the heap, by cancelling
    wary: dict[str, Wariness] = field(default_factory=dict)  # some of the queued, by id
    runners: dict[str, Runner] = field(default_factory=dict)
    hopeless_since: float | None = None  # since when no node there is could hold the shape
    stranded_since: float | None = None  # since when only closed nodes could
    told: set[str] = field(default_factory=set)  # the queued that were told so

    def __len__(self) -> int:
        return len(self.queue) - len(self.removed)

    def head(self) -> str | None:
        """The oldest queued task."""
        while self.queue and self.queue[0] in self.removed:
            self.removed.discard(heapq.heappop(self.queue))
        return self.queue[0] if self.queue else None

    def pop(self, passed_by: Callable[[str], bool] = lambda task: False) -> str | None:
        """Take the oldest queued task that isn't to be passed by."""
        skipped = []
        while (head := self.head()) is not None and passed_by(head):
            skipped.append(heapq.heappop(self.queue))
        if head is not None:
            heapq.heappop(self.queue)
            self.wary.pop(head, None)
        for task in skipped:
            heapq.heappush(self.queue, task)
        return head

    def oldest(self, count: int) -> list[str]:
        """The oldest queued tasks, up to so many."""
        return heapq.nsmallest(count, (task for task in self.queue if task not in self.removed))

    def pending(self) -> list[Runner]:
        return [runner for runner in self.runners.values() if runner.pending]

    def idle(self) -> list[Runner]:
        return [runner for runner in self.runners.values() if runner.idle_since is not None]


@dataclass(frozen=True, slots=True)
class Claim:
    """A lane waits for room on a node that other lanes' runners hold."""

    lane: Lane
    node: str
    since: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done now."""

    release: list[str]  # runners to end
    request: list[Shape]  # runners to ask Ray for
    wake: list[str]  # idle runners for which there is work


class Lanes:
    """The queues and the runners of all shapes."""

    def __init__(
        self, *, slice_s: float, idle_timeout_s: float, max_pending: int, clock: Callable[[], float]
    ) -> None:
        self._slice_s = slice_s
        self._idle_timeout_s = idle_timeout_s
        self._max_pending = max_pending
        self._clock = clock
        self._lanes: dict[Shape, Lane] = {}
        self._runners: dict[str, Runner] = {}
        self._nodes: dict[str, Node] = {}
        self._claim: Claim | None = None

    # --- what happened ----------------------------------------------------------------

    def set_nodes(self, nodes: Iterable[Node]) -> None:
        """The nodes that live now."""
        self._nodes = {node.id: node for node in nodes}

    def enqueue(self, task_id: str, shape: Shape) -> None:
        """A task waits."""
        lane = self._lane(shape)
        if task_id in lane.removed:
            lane.removed.discard(task_id)
        else:
            heapq.heappush(lane.queue, task_id)

    def make_wary(self, task_id: str, shape: Shape, node: str) -> None:
        """The last attempt at a queued task failed on a node."""
        self._lane(shape).wary[task_id] = Wariness(node, self._clock() + WARY_S)

    def remove(self, task_id: str, shape: Shape) -> None:
        """A task waits no more: it was cancelled. It must be queued."""
        lane = self._lane(shape)
        lane.removed.add(task_id)
        lane.wary.pop(task_id, None)

    def without(self, shape: Shape) -> frozenset[str]:
        """The nodes where the next runner that Ray is asked for must not be: those that are
        closed, and one that a task is wary of and no runner was asked for yet that isn't there.
        """
        lane = self._lane(shape)
        wary = Counter(w.node for task, w in lane.wary.items() if self._is_wary(task, lane, w.node))
        asked = Counter(node for runner in lane.pending() for node in runner.without)
        avoided = next((node for node in wary if asked[node] < wary[node]), None)
        closed = frozenset(node.id for node in self._nodes.values() if node.closed)
        return closed if avoided is None else closed | {avoided}

    def asked(self, runner_id: str, shape: Shape, without: frozenset[str] = frozenset()) -> None:
        """Ray was asked for a runner."""
        runner = Runner(runner_id, shape, asked=self._clock(), without=without)
        self._runners[runner_id] = self._lane(shape).runners[runner_id] = runner

    def up(self, runner_id: str, node: str) -> None:
        """A runner has come up on a node; it is idle until it takes a task."""
        runner = self._runners[runner_id]
        runner.node, runner.up = node, self._clock()
        runner.idle_since = runner.up

    def busy(self, runner_id: str) -> None:
        """A runner is at a task that it didn't take here: it had it before a restart."""
        self._runners[runner_id].idle_since = None

    def gone(self, runner_id: str) -> None:
        """A runner is no more."""
        if runner := self._runners.pop(runner_id, None):
            lane = self._lane(runner.shape)
            del lane.runners[runner_id]
            self._forget_if_empty(lane)

    def take(self, runner_id: str) -> str | None:
        """A runner is free: the task that it does next, or None if it has to wait."""
        runner = self._runners[runner_id]
        lane = self._lane(runner.shape)
        if not self._may_begin(runner) or self._must_yield(runner, lane):
            task = None
        else:
            task = lane.pop(lambda task: self._is_wary(task, lane, runner.node))
        runner.idle_since = None if task is not None else self._clock()
        return task

    # --- what to do -------------------------------------------------------------------

    def plan(self) -> Plan:
        """What is to be done now; to be asked again after each event and at `deadline`."""
        self._forget_wariness()
        free = _Free(self._open, self._runners.values())
        request: list[Shape] = []
        claim: Claim | None = None
        crowded_out: list[Lane] = []
        for lane in self._by_age():
            waiting, unplaced = self._ask(lane, free, request)
            if waiting <= 0:
                continue
            could_be = any(node.could_hold(lane.shape) for node in self._open.values())
            if lane.shape.serving and not could_be:
                continue  # no other node would help
            # Those that are only wary of a node have no need of a claim.
            could_be = could_be and waiting > len(lane.wary)
            if could_be and claim is not None:
                crowded_out.append(lane)
                continue
            # Demand that an autoscaler can see: more than one, never one for each task.
            request.extend([lane.shape] * (min(waiting, self._max_pending) - unplaced))
            if could_be:
                claim = self._lay_claim(lane, free)
        self._claim = claim
        released = {
            *self._surplus(crowded_out), *self._idle_to_release(free), *self._shut_out()
        }  # fmt: skip
        wake = [
            runner.id
            for lane in self._lanes.values()
            for runner in self._idle_with_work(lane)[: len(lane)]
            if runner.id not in released
            and self._may_begin(runner)
            and not self._must_yield(runner, lane)
        ]
        return Plan(sorted(released), request, wake)

    def deadline(self) -> float | None:
        """When the next thing falls due that no event announces; None: nothing will."""
        due = [
            runner.idle_since + self._idle_timeout_s
            for runner in self._runners.values()
            if runner.idle_since is not None
        ]
        due += [r.asked + BOOT_S for r in self._runners.values() if r.pending]
        due += [wary.until for lane in self._lanes.values() for wary in lane.wary.values()]
        return min((moment for moment in due if moment > self._clock()), default=None)

    def hopeless(self, grace_s: float) -> list[tuple[Shape, list[str]]]:
        """The shapes, and their tasks, that no node there is could ever hold, and for
        longer than `grace_s`. The tasks are taken off their lanes."""
        found = []
        for lane in list(self._lanes.values()):
            if not len(lane) or any(n.could_hold(lane.shape) for n in self._nodes.values()):
                lane.hopeless_since = None
            elif lane.hopeless_since is None:
                lane.hopeless_since = self._clock()
            elif self._clock() - lane.hopeless_since >= grace_s:
                # Not over yet: there may be more of them than the lane holds at once.
                found.append((lane.shape, list(iter(lane.pop, None))))
        return found

    def stranded(self, grace_s: float) -> list[tuple[list[str], list[Node]]]:
        """Tasks that only closed nodes could hold, for longer than `grace_s`, and those nodes.
        They stay queued, and each is named once as long as that lasts."""
        found = []
        for lane in self._lanes.values():
            able = [node for node in self._nodes.values() if node.could_hold(lane.shape)]
            if not len(lane) or not able or not all(node.closed for node in able):
                lane.stranded_since = None
                lane.told.clear()
            elif lane.stranded_since is None:
                lane.stranded_since = self._clock()
            elif self._clock() - lane.stranded_since >= grace_s:
                tasks = [one for one in lane.oldest(_TOLD_AT_ONCE) if one not in lane.told]
                lane.told.update(tasks)
                if tasks:
                    found.append((tasks, able))
        return found

    def largest_node(self) -> Node | None:
        """The node with the most CPUs, then memory."""
        return max(self._nodes.values(), key=lambda n: (n.cpus, n.memory), default=None)

    # --- the parts of it --------------------------------------------------------------

    @property
    def _open(self) -> dict[str, Node]:
        return {node.id: node for node in self._nodes.values() if not node.closed}

    def _is_closed(self, node: str | None) -> bool:
        # One that isn't known yet is taken to be open.
        return node in self._nodes and bool(self._nodes[node].closed)

    def _may_begin(self, runner: Runner) -> bool:
        """Whether a task may be begun where a runner is."""
        node = self._nodes.get(runner.node or "")
        return node is None or (node.looked_at and not node.closed)

    def _is_wary(self, task: str, lane: Lane, node: str | None) -> bool:
        """Whether a task is not to be run on a node, because it may hope for another."""
        wary = lane.wary.get(task)
        return (
            wary is not None
            and wary.node == node
            and self._clock() < wary.until
            and any(one.could_hold(lane.shape) for one in self._open.values() if one.id != node)
        )

    def _forget_wariness(self) -> None:
        now = self._clock()
        for lane in self._lanes.values():
            for task in [task for task, wary in lane.wary.items() if wary.until <= now]:
                del lane.wary[task]

    def _idle_with_work(self, lane: Lane) -> list[Runner]:
        """The idle runners of a lane that could take one of its tasks."""
        return [
            runner
            for runner in lane.idle()
            if not self._is_closed(runner.node)
            and not (lane.wary and self._all_wary(lane, runner.node))
        ]

    def _all_wary(self, lane: Lane, node: str | None) -> bool:
        queued = (task for task in lane.queue if task not in lane.removed)
        return all(self._is_wary(task, lane, node) for task in queued)

    def _shut_out(self) -> Iterator[str]:
        """Pending runners that can't be on a node which is open to their lane again."""
        usable = self._open.keys()
        for lane in self._lanes.values():
            avoided = {wary.node for wary in lane.wary.values()}
            for runner in lane.pending():
                if runner.without & usable - avoided:
                    yield runner.id

    def _lane(self, shape: Shape) -> Lane:
        return self._lanes.setdefault(shape, Lane(shape))

    def _forget_if_empty(self, lane: Lane) -> None:
        if not lane.runners and lane.head() is None:
            del self._lanes[lane.shape]

    def _by_age(self) -> Iterator[Lane]:
        """The lanes with queued tasks, that with the oldest one first."""
        aged = [(head, lane) for lane in self._lanes.values() if (head := lane.head())]
        yield from (lane for _, lane in sorted(aged, key=lambda pair: pair[0]))

    def _ask(self, lane: Lane, free: "_Free", request: list[Shape]) -> tuple[int, int]:
        """Request the runners that fit now.

        Returns how many tasks wait for one that doesn't fit, and how many runners are
        pending already for which there is no room.
        """
        now = self._clock()
        waiting, unplaced = len(lane) - len(self._idle_with_work(lane)), 0
        for runner in lane.pending():
            if now - runner.asked < BOOT_S and free.reserve(lane.shape):
                waiting -= 1
            else:
                unplaced += 1
        while waiting > unplaced and free.reserve(lane.shape):
            request.append(lane.shape)
            waiting -= 1
        return waiting, unplaced

    def _lay_claim(self, lane: Lane, free: "_Free") -> Claim | None:
        """Claim a node for a lane, the same as before if it can be; None: no other lane can
        help it, because all that it waits for is held by runners of its own."""
        able = [node.id for node in self._open.values() if _could_be_cleared(node, lane)]
        if not able:
            return None
        if (claim := self._claim) and claim.lane is lane and claim.node in able:
            free.hold(claim.node)
            return claim
        node = max(able, key=free.cpus)
        free.hold(node)
        return Claim(lane, node, self._clock())

    def _must_yield(self, runner: Runner, lane: Lane) -> bool:
        """Whether a free runner has to give way to the claim."""
        claim = self._claim
        if claim is None or lane is claim.lane or runner.node != claim.node:
            return False
        claimed, mine = claim.lane.head(), lane.head()
        if claimed is None or (mine is not None and mine < claimed):
            return False
        # One that has just come up does some work first, or its coming was for nothing.
        since = max(claim.since, runner.up)
        return mine is None or self._clock() - since >= self._slice_s

    def _surplus(self, crowded_out: list[Lane]) -> Iterator[str]:
        """Pending runners that nobody needs, or that would snatch what is claimed."""
        for lane in self._lanes.values():
            needed = 0 if lane in crowded_out else len(lane)
            youngest_first = sorted(lane.pending(), key=lambda runner: -runner.asked)
            surplus = len(youngest_first) - needed
            yield from (runner.id for runner in youngest_first[: max(0, surplus)])

    def _idle_to_release(self, free: "_Free") -> Iterator[str]:
        now, claim = self._clock(), self._claim
        for lane in self._lanes.values():
            for runner in lane.runners.values():
                if runner.idle_since is None:
                    continue
                if self._is_closed(runner.node):
                    yield runner.id
                elif claim and self._must_yield(runner, lane) and not free.fulfils(claim):
                    free.give_back(runner)
                    yield runner.id
                elif not len(lane) and now - runner.idle_since >= self._idle_timeout_s:
                    yield runner.id


@dataclass(slots=True)
class _Left:
    """What one node has left."""

    cpus: float
    memory: int
    disk_gb: float | None
    gpus: float

    def fits(self, shape: Shape) -> bool:
        return fits(shape, self.cpus, self.memory, self.disk_gb, self.gpus)

    def take(self, shape: Shape, times: int) -> None:
        self.cpus -= times * shape.cpus
        self.memory -= times * shape.memory
        if self.disk_gb is not None:
            self.disk_gb -= times * shape.disk_gb
        self.gpus -= times * shape.gpus


def _could_be_cleared(node: Node, lane: Lane) -> bool:
    """Whether a lane would have room on a node if all other lanes' runners there gave way."""
    left = _Left(node.cpus, node.memory, node.disk_gb, node.gpus)
    left.take(lane.shape, sum(runner.node == node.id for runner in lane.runners.values()))
    return node.suits(lane.shape) and left.fits(lane.shape)


class _Free:
    """What the nodes have left, as far as these lanes know."""

    def __init__(self, nodes: dict[str, Node], runners: Iterable[Runner]) -> None:
        self._nodes = nodes
        self._left = {n.id: _Left(n.cpus, n.memory, n.disk_gb, n.gpus) for n in nodes.values()}
        self._held = _Left(0, 0, None, 0)
        for runner in runners:
            if runner.node is not None:
                self._take(runner.node, runner.shape, 1)

    def reserve(self, shape: Shape) -> bool:
        """Set room for one runner aside, on the first node where it fits."""
        for node_id, left in self._left.items():
            if self._nodes[node_id].suits(shape) and left.fits(shape):
                self._take(node_id, shape, 1)
                return True
        return False

    def cpus(self, node_id: str) -> float:
        """How many CPUs of a node are free."""
        return self._left[node_id].cpus

    def hold(self, node_id: str) -> None:
        """Set what a node has left aside for a claim."""
        self._held = self._left.pop(node_id)

    def give_back(self, runner: Runner) -> None:
        """What a runner on the claimed node holds is free again."""
        self._held.take(runner.shape, -1)

    def fulfils(self, claim: Claim) -> bool:
        """Whether the claimed node has room now."""
        return self._held.fits(claim.lane.shape)

    def _take(self, node_id: str, shape: Shape, times: int) -> None:
        if left := self._left.get(node_id):
            left.take(shape, times)
