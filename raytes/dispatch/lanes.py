"""Lanes: the queued tasks and the runners of each resource shape, and who gets what next.

Pure policy: no clock of its own, no Ray. Whoever drives it tells what happened and carries
out what `plan` says.

A runner that is free takes the oldest task that it can do: those of its lane, and of each lane
that asks for less memory or disk, as long as every node has so much of these for its CPUs that
nobody misses what is not used. For the same reason a lane asks for the largest runner that
another one will want. So a mix of many shapes needs few runners, each of which costs a start.

When the oldest task of all waits for resources that runners hold which can't do it, its lane
lays a claim to one node: those runners there go on for a slice, then give way one by one until
the task fits. Meanwhile no younger lane asks Ray for a runner in that room, nor for one that
fits nowhere, so that what is given back can't be snatched away.

On a closed node (one that is ill, or being drained) nothing is begun: runners that are free
there go, and what no other node can hold waits. A task that failed on a node is wary of it for
a while, as long as another one could hold it.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter

from raytes.dispatch.shape import Node, Shape, fits
from raytes.dispatch.supply import BOOT_S, Runner, Supply

WARY_S = 30.0
"""So long a task that failed on a node waits rather than run there again."""

_TOLD_AT_ONCE = 100  # tasks of a lane; of a million that wait for a node, the oldest


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
    shape: Shape  # of the runner that it asks for
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
        self._spared: dict[Shape, bool] = {}

    # --- what happened ----------------------------------------------------------------

    def set_nodes(self, nodes: Iterable[Node]) -> None:
        """The nodes that live now."""
        self._nodes = {node.id: node for node in nodes}
        self._spared.clear()

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
        wary = Counter(w.node for task, w in lane.wary.items() if self._is_wary(lane, w.node, task))
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
        task = self._next_task(runner) if self._may_begin(runner) else None
        runner.idle_since = None if task is not None else self._clock()
        return task

    # --- what to do -------------------------------------------------------------------

    def plan(self) -> Plan:
        """What is to be done now; to be asked again after each event and at `deadline`."""
        self._forget_wariness()
        free = _Free(self._open, self._runners.values())
        supply = Supply(self._runners.values())
        request: list[Shape] = []
        claim: Claim | None = None
        released: set[str] = set()
        wake: list[str] = []
        unplaced: Counter[Shape] = Counter()  # asked for, or to be, though they don't fit now
        queued = _by_age(self._lanes.values())
        leases = self._leases(queued)
        for lane in queued:
            if claim is not None and free.exhausted and not supply.idle:
                break  # with thousands of shapes this is often, and nothing follows for the rest
            idle = supply.take_idle(len(lane), partial(self._can_do, lane))
            wake += idle
            waiting, lease = len(lane) - len(idle), leases[lane.shape]
            counted = supply.count_on_pending(
                len(lane),
                able=partial(self._could_do, lane),
                reserve=lambda runner: free.reserve(runner.shape, runner.without),
                may_wait=self._max_pending - unplaced[lease],
                now=self._clock(),
            )
            released.update(counted.surplus)
            unplaced[lease] += len(counted.stuck)
            waiting -= counted.placed
            while waiting > unplaced[lease] and free.reserve(lease):
                request.append(lease)
                waiting -= 1
            if waiting <= 0:
                continue
            could_be = any(node.could_hold(lane.shape) for node in self._open.values())
            if lane.shape.serving and not could_be:
                continue  # no other node would help
            # Those that are only wary of a node have no need of a claim.
            could_be = could_be and waiting > len(lane.wary)
            if could_be and claim is not None:
                # They would snatch what is claimed.
                released.update(counted.stuck)
                continue
            # Demand that an autoscaler can see: more than one, never one for each task.
            demand = max(0, min(waiting, self._max_pending) - unplaced[lease])
            request.extend([lease] * demand)
            unplaced[lease] += demand
            if could_be:
                claim = self._lay_claim(lane, lease, free)
        self._claim = claim
        released |= {*supply.pending(), *self._idle_to_release(free), *self._shut_out()}
        return Plan(
            sorted(released),
            request,
            wake=[one for one in wake if one not in released and self._may_wake(one)],
        )

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
                self._forget_if_empty(lane)
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

    def _is_wary(self, lane: Lane, node: str | None, task: str) -> bool:
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

    def _serves(self, shape: Shape, wanted: Shape) -> bool:
        """Whether tasks of the shape `wanted` may be run by runners of another."""
        return shape == wanted or (shape.covers(wanted) and self._is_spared(shape))

    def _is_spared(self, shape: Shape) -> bool:
        """Whether every node that could hold a shape has its memory and disk to spare."""
        if shape not in self._spared:
            able = [node for node in self._open.values() if node.could_hold(shape)]
            self._spared[shape] = bool(able) and all(node.spares(shape) for node in able)
        return self._spared[shape]

    def _leases(self, queued: list[Lane]) -> dict[Shape, Shape]:
        """What to ask for on behalf of each lane: the largest that another one wants too."""
        spared: defaultdict[tuple[object, ...], list[Shape]] = defaultdict(list)
        for shape in sorted((lane.shape for lane in queued), reverse=True):
            if self._is_spared(shape):
                spared[shape.kind].append(shape)
        return {lane.shape: _first_to_cover(lane.shape, spared[lane.shape.kind]) for lane in queued}

    def _lanes_for(self, runner: Runner) -> list[Lane]:
        """The lanes with queued tasks that a runner can do now, that with the oldest one first."""
        able = (lane for lane in self._lanes.values() if self._can_do(lane, runner))
        return _by_age(able)

    def _next_task(self, runner: Runner) -> str | None:
        for lane in self._lanes_for(runner):
            if self._must_yield(runner, lane):
                return None
            task = lane.pop(partial(self._is_wary, lane, runner.node))
            if task is not None:
                self._forget_if_empty(lane)
                return task
        return None

    def _could_do(self, lane: Lane, runner: Runner) -> bool:
        return self._serves(runner.shape, lane.shape)

    def _can_do(self, lane: Lane, runner: Runner) -> bool:
        """Whether a free runner could take one of the tasks of a lane now."""
        return (
            self._could_do(lane, runner)
            and not self._is_closed(runner.node)
            and not (lane.wary and self._all_wary(lane, runner.node))
        )

    def _may_wake(self, runner_id: str) -> bool:
        runner = self._runners[runner_id]
        return self._may_begin(runner) and not self._must_yield(runner, self._first_for(runner))

    def _first_for(self, runner: Runner) -> Lane | None:
        return next(iter(self._lanes_for(runner)), None)

    def _all_wary(self, lane: Lane, node: str | None) -> bool:
        queued = (task for task in lane.queue if task not in lane.removed)
        return all(self._is_wary(lane, node, task) for task in queued)

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

    def _lay_claim(self, lane: Lane, lease: Shape, free: "_Free") -> Claim | None:
        """Claim a node for a lane, the same as before if it can be; None: nobody can help it,
        because all that it waits for is held by runners that do its tasks."""
        able = [node.id for node in self._open.values() if self._could_be_cleared(node, lease)]
        if not able:
            return None
        claim = self._claim
        if claim is None or claim.lane is not lane or claim.node not in able:
            claim = Claim(lane, lease, max(able, key=free.cpus), self._clock())
        free.hold(claim)
        return claim

    def _could_be_cleared(self, node: Node, lease: Shape) -> bool:
        """Whether there would be room for a lease on a node if all runners there gave way that
        aren't as good."""
        left = _Left.all_of(node)
        for runner in self._runners.values():
            if runner.node == node.id and self._serves(runner.shape, lease):
                left.take(runner.shape, 1)
        return node.suits(lease) and left.fits(lease)

    def _must_yield(self, runner: Runner, lane: Lane | None) -> bool:
        """Whether a free runner that could go on with a lane has to give way to the claim."""
        claim = self._claim
        if (
            claim is None
            or runner.node != claim.node
            or self._serves(runner.shape, claim.lane.shape)
        ):
            return False
        claimed, mine = claim.lane.head(), lane.head() if lane else None
        if claimed is None or (mine is not None and mine < claimed):
            return False
        # One that has just come up does some work first, or its coming was for nothing.
        since = max(claim.since, runner.up)
        return mine is None or self._clock() - since >= self._slice_s

    def _idle_to_release(self, free: "_Free") -> Iterator[str]:
        now, claim = self._clock(), self._claim
        for runner in self._runners.values():
            if runner.idle_since is None:
                continue
            lane = self._first_for(runner)
            if self._is_closed(runner.node):
                yield runner.id
            elif claim and self._must_yield(runner, lane) and not free.fulfils(claim):
                free.give_back(runner)
                yield runner.id
            elif lane is None and now - runner.idle_since >= self._idle_timeout_s:
                yield runner.id


def _first_to_cover(wanted: Shape, shapes: list[Shape]) -> Shape:
    """The first that covers a shape, of some that have less and less memory; else itself."""
    for shape in shapes:
        if shape.memory < wanted.memory:
            break
        if shape.covers(wanted):
            return shape
    return wanted


def _by_age(lanes: Iterable[Lane]) -> list[Lane]:
    """The lanes that have queued tasks, that with the oldest one first."""
    aged = [(head, lane) for lane in lanes if (head := lane.head())]
    return [lane for _, lane in sorted(aged, key=itemgetter(0))]


@dataclass(slots=True)
class _Left:
    """What one node has left."""

    cpus: float
    memory: int
    disk_gb: float | None
    gpus: float

    @classmethod
    def all_of(cls, node: Node) -> "_Left":
        return cls(node.cpus, node.memory, node.disk_gb, node.gpus)

    def fits(self, shape: Shape) -> bool:
        return fits(shape, self.cpus, self.memory, self.disk_gb, self.gpus)

    def take(self, shape: Shape, times: int) -> None:
        self.cpus -= times * shape.cpus
        self.memory -= times * shape.memory
        if self.disk_gb is not None:
            self.disk_gb -= times * shape.disk_gb
        self.gpus -= times * shape.gpus

    def split(self, shape: Shape) -> "_Left":
        """Take as much of what a shape asks for as there is."""
        part = _Left(
            min(self.cpus, shape.cpus),
            min(self.memory, shape.memory),
            None if self.disk_gb is None else min(self.disk_gb, shape.disk_gb),
            min(self.gpus, shape.gpus),
        )
        self.cpus -= part.cpus
        self.memory -= part.memory
        if self.disk_gb is not None and part.disk_gb is not None:
            self.disk_gb -= part.disk_gb
        self.gpus -= part.gpus
        return part


class _Free:
    """What the nodes have left, as far as these lanes know."""

    def __init__(self, nodes: dict[str, Node], runners: Iterable[Runner]) -> None:
        self._nodes = nodes
        self._left = {node.id: _Left.all_of(node) for node in nodes.values()}
        self._held = _Left(0, 0, None, 0)
        for runner in runners:
            if runner.node is not None:
                self._take(runner.node, runner.shape, 1)

    def reserve(self, shape: Shape, without: Collection[str] = ()) -> bool:
        """Set room for one runner aside, on the first node where it fits but those `without`."""
        for node_id, left in self._left.items():
            if node_id in without:
                continue
            if self._nodes[node_id].suits(shape) and left.fits(shape):
                self._take(node_id, shape, 1)
                return True
        return False

    @property
    def exhausted(self) -> bool:
        """Whether there is room for nothing, because each shape has a CPU at least."""
        return all(left.cpus < 1 for left in self._left.values())

    def cpus(self, node_id: str) -> float:
        """How many CPUs of a node are free."""
        return self._left[node_id].cpus

    def hold(self, claim: Claim) -> None:
        """Set aside for a claim what its node has left of what it asks for."""
        self._held = self._left[claim.node].split(claim.shape)

    def give_back(self, runner: Runner) -> None:
        """What a runner on the claimed node holds is free again."""
        self._held.take(runner.shape, -1)

    def fulfils(self, claim: Claim) -> bool:
        """Whether the claimed node has room now."""
        return self._held.fits(claim.shape)

    def _take(self, node_id: str, shape: Shape, times: int) -> None:
        if left := self._left.get(node_id):
            left.take(shape, times)
