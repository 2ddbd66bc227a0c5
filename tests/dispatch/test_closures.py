"""When a node is closed and opened, on a clock that the tests turn."""

import pytest

from raytes.dispatch.closures import AGAIN_IDLE_S, AGAIN_S, FAILED, Closures


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def closures(clock: Clock) -> Closures:
    return Closures(clock)


def fail(closures: Closures, times: int = FAILED) -> None:
    for _ in range(times):
        closures.failed("n")


def test_a_node_of_which_nothing_ill_is_known_is_open(closures: Closures) -> None:
    assert closures.why("n") == ""
    closures.looked("n", "")
    assert closures.why("n") == ""
    assert closures.due(waiting=True) == set()


def test_a_node_that_fails_its_look_is_closed_until_it_passes_one(
    closures: Closures, clock: Clock
) -> None:
    closures.looked("n", "no Podman")
    assert closures.why("n") == "no Podman"
    assert closures.due(waiting=True) == set()
    clock.now += AGAIN_S
    assert closures.due(waiting=True) == {"n"}
    closures.looked("n", "")
    assert closures.why("n") == ""


def test_an_ill_node_that_nobody_waits_for_is_left_alone_for_longer(
    closures: Closures, clock: Clock
) -> None:
    closures.looked("n", "no Podman")
    clock.now += AGAIN_S
    assert closures.due(waiting=False) == set()
    clock.now += AGAIN_IDLE_S
    assert closures.due(waiting=False) == {"n"}


def test_two_failures_running_suspend_a_node_and_it_is_looked_at_at_once(
    closures: Closures,
) -> None:
    assert not closures.failed("n")
    assert closures.why("n") == ""
    assert closures.failed("n")
    assert "failed by the node's own fault" in closures.why("n")
    assert closures.due(waiting=True) == {"n"}
    closures.looked("n", "")
    assert closures.why("n") == ""


def test_failures_with_a_success_between_them_do_not_suspend(closures: Closures) -> None:
    for _ in range(2 * FAILED):
        closures.failed("n")
        closures.went_well("n")
    assert closures.why("n") == ""


def test_a_node_that_passes_its_looks_and_fails_its_tasks_is_looked_at_ever_later(
    closures: Closures, clock: Clock
) -> None:
    pauses = []
    for _ in range(4):
        fail(closures)
        began = clock.now
        while not closures.due(waiting=True):
            clock.now += 1
        pauses.append(clock.now - began)
        closures.looked("n", "")
    assert pauses == [0, AGAIN_S, 2 * AGAIN_S, 4 * AGAIN_S]
    closures.went_well("n")
    fail(closures)
    assert closures.due(waiting=True) == {"n"}


def test_a_drained_node_is_closed_until_somebody_says_otherwise(closures: Closures) -> None:
    closures.drain("n")
    assert closures.why("n") == "it is being drained"
    closures.looked("n", "")
    assert closures.due(waiting=True) == set()
    assert closures.why("n") == "it is being drained"
    closures.undrain("n")
    assert closures.why("n") == ""


def test_a_node_that_is_gone_is_forgotten(closures: Closures, clock: Clock) -> None:
    closures.looked("n", "no Podman")
    closures.forget_others({"m"})
    clock.now += AGAIN_S
    assert closures.due(waiting=True) == set()


def test_a_node_may_be_suspended_however_often(closures: Closures, clock: Clock) -> None:
    for _ in range(1100):
        fail(closures)
        clock.now += 300  # the longest
        assert closures.due(waiting=True) == {"n"}
        closures.looked("n", "")
