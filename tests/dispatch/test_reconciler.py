"""What is repaired when store, Ray and dispatcher don't agree."""

from dataclasses import replace

from raytes.dispatch.reconciler import Found, Reconciler, Repairs
from raytes.store.changes import Pool, Queued, Running

AGREED = Found(
    with_runner=frozenset({Running("task", 1, "runner"), Running("ending", 1, "other")}),
    waiting=frozenset({Queued("waiting", Pool("", "shape"))}),
    actors=frozenset({"runner"}),
    leases=frozenset({"runner", "asked for"}),
    seen_to=frozenset({("task", 1), ("ending", 1)}),
    held=frozenset({"waiting"}),
)
NOTHING = Repairs(frozenset(), frozenset(), frozenset(), frozenset())


def test_where_all_agree_nothing_is_repaired() -> None:
    reconciler = Reconciler()
    assert [reconciler.compare(AGREED) for _ in range(3)] == [NOTHING] * 3


def test_what_is_amiss_twice_running_is_repaired_once() -> None:
    reconciler = Reconciler()
    amiss = replace(
        AGREED,
        actors=AGREED.actors | {"stranger"},
        seen_to=frozenset({("ending", 1)}),
        held=frozenset(),
    )
    assert reconciler.compare(amiss) == NOTHING
    assert reconciler.compare(amiss) == Repairs(
        orphans=frozenset({Running("task", 1, "runner")}),
        strangers=frozenset({"stranger"}),
        forgotten=AGREED.waiting,
        cancels=frozenset(),
    )
    assert reconciler.compare(amiss) == NOTHING


def test_what_was_under_way_is_left_alone() -> None:
    reconciler = Reconciler()
    amiss = replace(AGREED, seen_to=frozenset(), held=frozenset(), leases=frozenset())
    for _ in range(3):
        assert reconciler.compare(amiss) == NOTHING
        assert reconciler.compare(AGREED) == NOTHING


def test_a_later_attempt_is_another_one() -> None:
    reconciler = Reconciler()
    for attempt in range(1, 4):
        one = Running("task", attempt, "runner")
        amiss = replace(AGREED, with_runner=frozenset({one}), seen_to=frozenset())
        assert reconciler.compare(amiss) == NOTHING


def test_a_cancel_that_may_not_have_arrived_is_said_again() -> None:
    reconciler = Reconciler()
    canceling = Running("task", 1, "runner", canceling=True)
    found = replace(AGREED, with_runner=frozenset({canceling}))
    assert reconciler.compare(found) == NOTHING
    assert reconciler.compare(found).cancels == {canceling}
