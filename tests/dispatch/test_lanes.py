"""The lanes' policy, on a clock that the tests turn."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytes.dispatch.lanes import WARY_S, Lanes, Plan
from raytes.dispatch.shape import Node, Shape
from raytes.dispatch.supply import BOOT_S

SMALL = Shape(cpus=1, memory=1)
BIG = Shape(cpus=2, memory=1)
SMALLER = Shape(cpus=1, memory=0)
HUGE = Shape(cpus=64, memory=1)

SLICE_S = 2.0
IDLE_S = 10.0
MAX_PENDING = 4


class Cluster:
    """Lanes with a Ray beside them that places runners on its nodes, or can't."""

    def __init__(self, *cpus: int) -> None:
        self.now = 0.0
        self.lanes = Lanes(
            slice_s=SLICE_S,
            idle_timeout_s=IDLE_S,
            max_pending=MAX_PENDING,
            clock=lambda: self.now,
        )
        self.nodes = {f"node{i}": Node(f"node{i}", count, 1000) for i, count in enumerate(cpus)}
        self.free = {name: node.cpus for name, node in self.nodes.items()}
        self.pending: dict[str, Shape] = {}
        self.without: dict[str, frozenset[str]] = {}
        self.placed: dict[str, tuple[str, Shape]] = {}
        self.running: dict[str, str] = {}
        self.numbers = itertools.count()
        self.lanes.set_nodes(self.nodes.values())

    def add(self, shape: Shape, *tasks: str) -> None:
        for task in tasks:
            self.lanes.enqueue(task, shape)

    def close(self, node: str, why: str = "ill") -> None:
        """Close a node, or open it again with no reason."""
        self.nodes[node] = replace(self.nodes[node], closed=why)
        self.lanes.set_nodes(self.nodes.values())

    def settle(self) -> Plan:
        """Carry out plans until nothing changes; the last one."""
        for _ in range(100):
            plan = self.lanes.plan()
            for runner in plan.release:
                self.end(runner)
            for shape in plan.request:
                runner = f"r{next(self.numbers)}"
                self.pending[runner] = shape
                self.without[runner] = self.lanes.without(shape)
                self.lanes.asked(runner, shape, self.without[runner])
            placed = self.place()
            woken = [self.take(runner) for runner in [*plan.wake, *placed]]
            if not (plan.release or plan.request or any(woken)):
                return plan
        pytest.fail("the plans never settle")

    def place(self) -> list[str]:
        """Ray: the first pending runner that fits anywhere, until none does."""
        up = []
        for runner, shape in list(self.pending.items()):
            node = next(
                (
                    name
                    for name, left in self.free.items()
                    if left >= shape.cpus and name not in self.without[runner]
                ),
                None,
            )
            if node is not None:
                del self.pending[runner]
                self.free[node] -= shape.cpus
                self.placed[runner] = (node, shape)
                self.lanes.up(runner, node)
                up.append(runner)
        return up

    def take(self, runner: str) -> str | None:
        task = self.lanes.take(runner)
        if task is not None:
            self.running[runner] = task
        return task

    def finish(self, runner: str) -> str:
        """A task ends, and its runner takes the next."""
        task = self.running.pop(runner)
        self.take(runner)
        self.settle()
        return task

    def end(self, runner: str) -> None:
        self.pending.pop(runner, None)
        if runner in self.placed:
            node, shape = self.placed.pop(runner)
            self.free[node] += shape.cpus
        assert runner not in self.running, "a runner at a task was released"
        self.lanes.gone(runner)


def tasks_running(cluster: Cluster) -> list[str]:
    return sorted(cluster.running.values())


def test_what_fits_runs_and_the_rest_waits() -> None:
    cluster = Cluster(2)
    cluster.add(SMALL, "a", "b", "c")
    cluster.settle()
    assert tasks_running(cluster) == ["a", "b"]


def test_a_finished_runner_takes_the_oldest_task_of_its_lane() -> None:
    cluster = Cluster(1)
    cluster.add(SMALL, "c", "b", "a")
    cluster.settle()
    assert [cluster.finish("r0") for _ in range(3)] == ["a", "b", "c"]
    assert list(cluster.placed) == ["r0"]


def test_a_million_tasks_ask_ray_for_few_runners_at_once() -> None:
    cluster = Cluster(2)
    cluster.add(SMALL, *(f"{n:03}" for n in range(100)))
    cluster.settle()
    assert len(cluster.pending) == MAX_PENDING


def test_the_pending_runners_go_with_the_tasks_they_were_for() -> None:
    cluster = Cluster(1)
    cluster.add(SMALL, "a", "b")
    cluster.settle()
    assert cluster.pending
    cluster.finish("r0")
    assert not cluster.pending


def test_a_cancelled_task_is_not_taken() -> None:
    cluster = Cluster(1)
    cluster.add(SMALL, "a", "b", "c")
    cluster.settle()
    cluster.lanes.remove("b", SMALL)
    cluster.finish("r0")
    assert tasks_running(cluster) == ["c"]


def test_a_task_that_is_queued_again_is_taken_again() -> None:
    cluster = Cluster(1)
    cluster.add(SMALL, "a", "b")
    cluster.settle()
    cluster.add(SMALL, "a")
    cluster.finish("r0")
    assert tasks_running(cluster) == ["a"]


def test_an_idle_runner_goes_after_its_time_and_not_before() -> None:
    cluster = Cluster(1)
    cluster.add(SMALL, "a")
    cluster.settle()
    cluster.finish("r0")
    assert cluster.lanes.deadline() == IDLE_S
    cluster.now = IDLE_S - 0.1
    cluster.settle()
    assert cluster.placed
    cluster.now = IDLE_S
    cluster.settle()
    assert not cluster.placed


def test_an_idle_runner_gives_way_at_once_to_another_shape() -> None:
    cluster = Cluster(1)
    cluster.add(SMALL, "a")
    cluster.settle()
    cluster.finish("r0")
    other = Shape(cpus=1, memory=2)
    cluster.add(other, "b")
    cluster.settle()
    assert tasks_running(cluster) == ["b"]


def test_a_lane_goes_on_for_a_slice_while_an_older_task_of_another_shape_waits() -> None:
    cluster = Cluster(1)
    other = Shape(cpus=1, memory=2)
    cluster.add(SMALL, "a", "c", "d")
    cluster.settle()
    cluster.add(other, "b")
    cluster.settle()
    cluster.now = SLICE_S - 0.1
    cluster.finish("r0")
    assert tasks_running(cluster) == ["c"]
    cluster.now = SLICE_S
    cluster.finish("r0")
    assert tasks_running(cluster) == ["b"]


def test_younger_tasks_of_another_shape_wait_for_the_older_ones() -> None:
    cluster = Cluster(1)
    cluster.add(SMALL, "a", "b")
    cluster.add(Shape(cpus=1, memory=2), "c")
    cluster.settle()
    cluster.now = 100.0
    cluster.finish("r0")
    assert tasks_running(cluster) == ["b"]


def test_a_node_has_as_many_gpus_for_runners_as_it_has() -> None:
    lanes = Lanes(slice_s=SLICE_S, idle_timeout_s=IDLE_S, max_pending=1, clock=lambda: 0.0)
    lanes.set_nodes([Node("n", cpus=4, memory=1000, gpus=2)])
    gpu = Shape(cpus=1, memory=1, gpus=1)
    for number in range(2):
        lanes.enqueue(f"task{number}", gpu)
        assert lanes.plan().request == [gpu]
        lanes.asked(f"runner{number}", gpu)
        lanes.up(f"runner{number}", "n")
        assert lanes.take(f"runner{number}") == f"task{number}"
    lanes.enqueue("task2", gpu)
    assert lanes.plan().request == [gpu]  # so that an autoscaler sees it
    lanes.asked("runner2", gpu)
    assert lanes.plan().request == []
    lanes.gone("runner0")
    assert lanes.hopeless(0) == []


def test_a_task_that_waits_for_a_gpu_of_its_own_lane_holds_nobody_else_up() -> None:
    lanes = Lanes(slice_s=SLICE_S, idle_timeout_s=IDLE_S, max_pending=1, clock=lambda: 0.0)
    lanes.set_nodes([Node("n", cpus=4, memory=1000, gpus=1)])
    gpu = Shape(cpus=1, memory=1, gpus=1)
    lanes.enqueue("a", gpu)
    lanes.asked("runner", gpu)
    lanes.up("runner", "n")
    assert lanes.take("runner") == "a"
    lanes.enqueue("b", gpu)
    lanes.plan()
    lanes.enqueue("c", SMALL)
    assert SMALL in lanes.plan().request


def test_a_big_task_is_not_starved_by_a_stream_of_small_ones() -> None:
    cluster = Cluster(2)
    cluster.add(SMALL, "a", "b")
    cluster.settle()
    cluster.add(BIG, "big")
    cluster.add(SMALL, *(f"z{n}" for n in range(50)))
    cluster.settle()
    for _ in range(10):
        if "big" in cluster.running.values():
            break
        cluster.now += 1.0
        cluster.finish(next(iter(cluster.running)))
    assert tasks_running(cluster) == ["big"]


def test_what_is_given_back_is_held_for_the_big_task() -> None:
    cluster = Cluster(2)
    cluster.add(SMALL, "a", "b")
    cluster.settle()
    cluster.add(BIG, "big")
    third = Shape(cpus=1, memory=3)
    cluster.add(third, "z")
    cluster.settle()
    cluster.now = SLICE_S
    cluster.finish("r0")
    assert tasks_running(cluster) == ["b"]
    assert third not in cluster.pending.values()


def test_a_task_that_fits_beside_does_not_wait_for_the_big_one() -> None:
    cluster = Cluster(2, 1)
    cluster.add(SMALL, "a")
    cluster.settle()
    cluster.add(BIG, "big")
    cluster.add(Shape(cpus=1, memory=3), "z")
    cluster.settle()
    assert "z" in cluster.running.values()


def test_what_no_node_can_hold_asks_ray_all_the_same_and_holds_nobody_up() -> None:
    cluster = Cluster(1)
    cluster.add(HUGE, "a", "b")
    cluster.add(SMALL, "c")
    cluster.settle()
    assert list(cluster.pending.values()) == [HUGE, HUGE]
    assert tasks_running(cluster) == ["c"]


def test_what_no_node_can_hold_is_given_up_after_a_time() -> None:
    cluster = Cluster(1)
    cluster.add(HUGE, "a", "b")
    assert cluster.lanes.hopeless(5.0) == []
    cluster.now = 4.9
    assert cluster.lanes.hopeless(5.0) == []
    cluster.now = 5.0
    assert cluster.lanes.hopeless(5.0) == [(HUGE, ["a", "b"])]


def test_a_new_node_gives_hope() -> None:
    cluster = Cluster(1)
    cluster.add(HUGE, "a")
    cluster.lanes.hopeless(5.0)
    cluster.lanes.set_nodes([*cluster.nodes.values(), Node("new", 64, 1000)])
    cluster.now = 5.0
    assert cluster.lanes.hopeless(5.0) == []


def test_room_that_somebody_else_holds_is_claimed_from_idle_runners() -> None:
    cluster = Cluster(2)
    cluster.add(SMALL, "a")
    cluster.settle()
    cluster.finish("r0")
    cluster.free["node0"] -= 1  # another user of the cluster
    other = Shape(cpus=1, memory=2)
    cluster.add(other, "b")
    cluster.settle()
    assert list(cluster.pending.values()) == [other]
    cluster.now = BOOT_S
    cluster.settle()
    cluster.settle()
    assert tasks_running(cluster) == ["b"]


def test_a_runner_that_is_gone_makes_room_for_a_new_one() -> None:
    cluster = Cluster(1)
    cluster.add(SMALL, "a", "b")
    cluster.settle()
    cluster.running.clear()
    cluster.end("r0")
    cluster.settle()
    assert tasks_running(cluster) == ["b"]


@pytest.mark.parametrize("restarted", [True, False])
def test_a_runner_found_after_a_restart_is_busy_only_if_it_has_a_task(restarted: bool) -> None:
    cluster = Cluster(1)
    cluster.lanes.asked("old", SMALL)
    cluster.lanes.up("old", "node0")
    if restarted:
        cluster.lanes.busy("old")
    cluster.add(SMALL, "a")
    assert cluster.lanes.plan().wake == ([] if restarted else ["old"])


def where(cluster: Cluster, task: str) -> str:
    [runner] = [runner for runner, one in cluster.running.items() if one == task]
    return cluster.placed[runner][0]


def test_nothing_is_begun_on_a_closed_node() -> None:
    cluster = Cluster(1, 1)
    cluster.close("node0")
    cluster.add(SMALL, "a", "b")
    cluster.settle()
    assert tasks_running(cluster) == ["a"]
    assert where(cluster, "a") == "node1"


def test_a_free_runner_on_a_closed_node_takes_nothing_and_goes() -> None:
    cluster = Cluster(1)
    cluster.add(SMALL, "a", "b")
    cluster.settle()
    cluster.close("node0")
    cluster.finish("r0")
    assert not cluster.running
    assert not cluster.placed


def test_a_node_that_is_open_again_is_used_by_those_who_waited() -> None:
    cluster = Cluster(1)
    cluster.close("node0")
    cluster.add(SMALL, "a")
    cluster.settle()
    assert cluster.pending
    cluster.close("node0", why="")
    cluster.settle()
    assert tasks_running(cluster) == ["a"]


def test_what_only_closed_nodes_could_hold_waits_and_is_told_once() -> None:
    cluster = Cluster(1, 4)
    cluster.close("node1", "its disk is full")
    cluster.add(BIG, "a")
    cluster.settle()
    assert cluster.lanes.stranded(5.0) == []
    cluster.now = 5.0
    [(tasks, nodes)] = cluster.lanes.stranded(5.0)
    assert (tasks, [node.closed for node in nodes]) == (["a"], ["its disk is full"])
    assert cluster.lanes.stranded(5.0) == []
    assert cluster.lanes.hopeless(0.0) == []
    cluster.now = 6.0
    assert cluster.lanes.hopeless(0.0) == []


def test_what_only_the_closed_serving_node_could_hold_asks_ray_for_nothing() -> None:
    cluster = Cluster(1)
    cluster.nodes["node0"] = replace(cluster.nodes["node0"], serving=True)
    cluster.close("node0")
    cluster.add(Shape(cpus=1, memory=1, serving=True), "a")
    cluster.settle()
    assert not cluster.pending


def test_a_runner_on_a_node_that_was_not_looked_at_yet_waits_for_that() -> None:
    cluster = Cluster(1)
    cluster.lanes.set_nodes([replace(cluster.nodes["node0"], looked_at=False)])
    cluster.add(SMALL, "a")
    assert cluster.settle() == Plan([], [], [])
    assert list(cluster.placed) == ["r0"]
    assert not cluster.running
    cluster.lanes.set_nodes(cluster.nodes.values())
    cluster.settle()
    assert tasks_running(cluster) == ["a"]


def test_a_task_that_failed_on_a_node_is_tried_again_on_another() -> None:
    cluster = Cluster(1, 1)
    cluster.add(SMALL, "a")
    cluster.settle()
    assert where(cluster, "a") == "node0"
    del cluster.running["r0"]
    cluster.add(SMALL, "a")
    cluster.lanes.make_wary("a", SMALL, "node0")
    cluster.take("r0")
    cluster.settle()
    assert where(cluster, "a") == "node1"


def test_a_runner_passes_by_what_is_wary_of_its_node_and_takes_the_next() -> None:
    cluster = Cluster(1, 1)
    cluster.free["node1"] = 0  # another user of the cluster
    cluster.add(SMALL, "a")
    cluster.lanes.make_wary("a", SMALL, "node0")
    cluster.add(SMALL, "b", "c")
    cluster.settle()
    assert tasks_running(cluster) == ["b"]
    cluster.finish(next(iter(cluster.running)))
    assert tasks_running(cluster) == ["c"]


@pytest.mark.parametrize("others", [[], ["too small"], ["closed"]])
def test_a_task_that_failed_is_tried_where_it_was_if_no_other_node_could_hold_it(
    others: list[str],
) -> None:
    cluster = Cluster(2, *(1 if other == "too small" else 2 for other in others))
    if "closed" in others:
        cluster.close("node1")
    cluster.add(BIG, "a")
    cluster.lanes.make_wary("a", BIG, "node0")
    cluster.settle()
    assert where(cluster, "a") == "node0"


def test_a_task_is_wary_of_a_node_only_for_a_time() -> None:
    cluster = Cluster(1, 1)
    cluster.free["node1"] = 0  # another user of the cluster
    cluster.add(SMALL, "a")
    cluster.lanes.make_wary("a", SMALL, "node0")
    cluster.settle()
    assert not cluster.running
    assert cluster.lanes.deadline() is not None
    cluster.now = WARY_S
    cluster.settle()
    cluster.settle()
    assert tasks_running(cluster) == ["a"]


def test_a_task_that_waits_for_another_node_keeps_nobody_from_the_one_where_it_failed() -> None:
    cluster = Cluster(1, 1)
    cluster.free["node1"] = 0  # another user of the cluster
    cluster.add(SMALL, "a")
    cluster.lanes.make_wary("a", SMALL, "node0")
    cluster.add(Shape(cpus=1, memory=2), "b")
    cluster.settle()
    assert tasks_running(cluster) == ["b"]


def test_a_runner_that_keeps_away_from_a_node_has_no_room_set_aside_there() -> None:
    cluster = Cluster(3, 1)
    cluster.free["node0"] = 0
    cluster.add(SMALL, "0")
    cluster.settle()
    assert where(cluster, "0") == "node1"
    cluster.add(SMALL, "a")
    cluster.lanes.make_wary("a", SMALL, "node0")
    cluster.settle()
    assert list(cluster.without.values())[-1] == {"node0"}
    other = Shape(cpus=1, memory=1, on_demand=True)
    cluster.add(other, *(f"b{n}" for n in range(9)))
    assert cluster.lanes.plan().request.count(other) == 3 + MAX_PENDING


@given(
    nodes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    wishes=st.lists(st.integers(1, 4), min_size=1, max_size=30),
    pauses=st.lists(st.floats(0, 3), min_size=1, max_size=10),
)
def test_every_task_that_fits_some_node_runs_once(
    nodes: list[int], wishes: list[int], pauses: list[float]
) -> None:
    cluster = Cluster(*nodes)
    fitting = [
        (f"t{number:02}", Shape(cpus=cpus, memory=1))
        for number, cpus in enumerate(wishes)
        if cpus <= max(nodes)
    ]
    for task, shape in fitting:
        cluster.add(shape, task)
    cluster.settle()
    done = []
    pause = itertools.cycle(pauses)
    for _ in range(20 * len(wishes)):
        if not cluster.running:
            cluster.now += 1.0
            cluster.settle()
            continue
        cluster.now += next(pause)
        done.append(cluster.finish(next(iter(cluster.running))))
        if len(done) == len(fitting):
            break
    assert sorted(done) == [task for task, _ in fitting]


def mixed(count: int) -> list[tuple[Shape, str]]:
    """Tasks of eight shapes in turn."""
    return [(Shape(cpus=1, memory=10 + n % 8), f"task{n:03}") for n in range(count)]


def test_a_mix_of_shapes_is_run_by_few_runners() -> None:
    cluster = Cluster(2)
    for shape, task in mixed(200):
        cluster.add(shape, task)
    cluster.settle()
    runners, done = set(cluster.running), []
    while cluster.running:
        cluster.now += 0.1
        done += [cluster.finish(runner) for runner in list(cluster.running)]
        runners |= set(cluster.running)
    assert done == [task for _, task in mixed(200)]
    assert len(runners) == 2


def test_a_runner_with_more_memory_takes_what_asks_for_less() -> None:
    cluster = Cluster(1)
    more = Shape(cpus=1, memory=20)
    cluster.add(more, "a")
    cluster.settle()
    cluster.finish("r0")
    cluster.add(SMALL, "b", "d")
    cluster.add(more, "c")
    cluster.settle()
    assert [cluster.finish("r0") for _ in range(3)] == ["b", "c", "d"]


def test_where_memory_runs_out_before_cpus_a_runner_takes_only_its_own_shape() -> None:
    cluster = Cluster(4)  # 250 of memory for each CPU
    greedy = Shape(cpus=1, memory=600)
    cluster.add(greedy, "a")
    cluster.settle()
    cluster.finish("r0")
    cluster.add(SMALL, "b")
    cluster.settle()
    assert tasks_running(cluster) == ["b"]
    assert cluster.placed.keys() - cluster.running.keys() == {"r0"}


def test_a_runner_with_a_gpu_takes_no_task_without_one() -> None:
    lanes = Lanes(slice_s=SLICE_S, idle_timeout_s=IDLE_S, max_pending=1, clock=lambda: 0.0)
    lanes.set_nodes([Node("n", cpus=4, memory=1000, gpus=1)])
    lanes.asked("runner", Shape(cpus=1, memory=2, gpus=1))
    lanes.up("runner", "n")
    lanes.enqueue("a", SMALL)
    assert lanes.take("runner") is None


def test_who_waits_for_a_gpu_of_another_shape_holds_no_more_of_the_node_than_it_needs() -> None:
    lanes = Lanes(slice_s=SLICE_S, idle_timeout_s=IDLE_S, max_pending=1, clock=lambda: 0.0)
    lanes.set_nodes([Node("n", cpus=4, memory=1000, gpus=1)])
    lanes.enqueue("a", gpu := Shape(cpus=1, memory=1, gpus=1))
    lanes.asked("runner", gpu)
    lanes.up("runner", "n")
    assert lanes.take("runner") == "a"
    lanes.enqueue("b", Shape(cpus=2, memory=1, gpus=1))
    lanes.plan()
    lanes.enqueue("c", SMALL)
    lanes.enqueue("d", SMALL)
    assert lanes.plan().request.count(SMALL) == 1  # the other free CPUs are claimed


def test_a_runner_that_may_do_nothing_of_its_lane_gives_way_to_a_claim() -> None:
    cluster = Cluster(2, 1)
    cluster.free["node1"] = 0  # another user of the cluster
    cluster.add(SMALL, "0")
    cluster.settle()
    cluster.add(SMALL, "1")
    cluster.lanes.make_wary("1", SMALL, "node0")
    cluster.add(BIG, "2")
    cluster.now = BOOT_S
    cluster.settle()
    cluster.add(SMALLER, "3")
    cluster.now += SLICE_S
    cluster.finish(next(iter(cluster.running)))
    assert tasks_running(cluster) == ["2"]


def test_while_a_claim_stands_what_fits_elsewhere_is_asked_for_once() -> None:
    cluster = Cluster(4, 2)
    lanes = cluster.lanes
    lanes.set_nodes([cluster.nodes["node0"]])
    cluster.free["node1"] = 0
    cluster.add(SMALL, "a0", "a1", "a2", "a3")
    cluster.settle()
    cluster.add(Shape(cpus=4, memory=1), "b")
    cluster.add(SMALL, *(f"c{n:03}" for n in range(100)))
    cluster.settle()
    lanes.set_nodes(cluster.nodes.values())
    first = lanes.plan()
    for number, shape in enumerate(first.request):
        lanes.asked(f"new{number}", shape)
    again = lanes.plan()
    assert first.request == [SMALL, SMALL]
    assert (again.request, again.release) == ([], [])


def test_a_lane_whose_tasks_were_cancelled_is_forgotten() -> None:
    cluster = Cluster(1)
    for n in range(50):
        cluster.add(Shape(cpus=2, memory=n), f"task{n}")
        cluster.lanes.remove(f"task{n}", Shape(cpus=2, memory=n))
    cluster.lanes.hopeless(0)
    assert not cluster.lanes._lanes


def test_a_plan_looks_at_each_of_many_shapes_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def covers(self: Shape, other: Shape) -> bool:
        nonlocal looks
        looks += 1
        return original(self, other)

    original = Shape.covers
    monkeypatch.setattr(Shape, "covers", covers)
    cluster = Cluster(2)
    for n in range(400):
        cluster.add(Shape(cpus=1, memory=500 + n), f"task{n:03}")
    cluster.lanes.plan()
    assert looks < 4 * 400


def test_runners_that_nothing_is_free_for_are_not_asked_for_again_and_again() -> None:
    cluster = Cluster(2)
    cluster.free["node0"] = 0  # somebody else on the cluster has them
    cluster.add(SMALL, *(f"t{i:02}" for i in range(20)))
    cluster.settle()
    pending = set(cluster.pending)
    cluster.now += BOOT_S
    cluster.settle()
    assert cluster.pending
    assert set(cluster.pending) <= pending
