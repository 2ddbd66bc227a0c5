import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytes.lifecycle import FINAL, WITH_RUNNER, predecessors
from raytes.models import TesState

S = TesState
# UNKNOWN is for documents that don't say; raytes neither pauses a task nor leaves one PREEMPTED.
USED = set(TesState) - {S.UNKNOWN, S.PAUSED, S.PREEMPTED}


def followers(state: TesState) -> set[TesState]:
    return {after for after in TesState if state in predecessors(after)}


def reachable(state: TesState) -> set[TesState]:
    seen: set[TesState] = set()
    pending = [state]
    while pending:
        for after in followers(pending.pop()) - seen:
            seen.add(after)
            pending.append(after)
    return seen


def test_the_final_states_are_those_of_the_specification() -> None:
    assert {S.COMPLETE, S.EXECUTOR_ERROR, S.SYSTEM_ERROR, S.CANCELED} == FINAL


@pytest.mark.parametrize("state", sorted(FINAL))
def test_nothing_follows_a_final_state(state: TesState) -> None:
    assert followers(state) == set()


@pytest.mark.parametrize("state", sorted(USED - FINAL))
def test_every_other_state_leads_to_a_final_one(state: TesState) -> None:
    assert reachable(state) & FINAL


@pytest.mark.parametrize("state", sorted(USED - FINAL))
def test_a_task_can_be_canceled_at_every_moment(state: TesState) -> None:
    assert S.CANCELED in reachable(state)


def test_every_state_is_reached_from_queued_and_no_other_exists() -> None:
    assert reachable(S.QUEUED) | {S.QUEUED} == USED


@pytest.mark.parametrize("state", sorted(set(TesState) - USED))
def test_states_that_raytes_doesnt_use_have_no_neighbours(state: TesState) -> None:
    assert followers(state) == set()
    assert predecessors(state) == set()


@pytest.mark.parametrize("state", TesState)
def test_no_state_follows_itself(state: TesState) -> None:
    assert state not in predecessors(state)


def test_within_an_attempt_states_never_come_back() -> None:
    for state in WITH_RUNNER:
        onwards, pending = set[TesState](), [state]
        while pending:
            for after in followers(pending.pop()) - {S.QUEUED} - onwards:
                onwards.add(after)
                pending.append(after)
        assert state not in onwards


def test_what_is_being_canceled_can_only_be_canceled() -> None:
    assert reachable(S.CANCELING) == {S.CANCELED}


def test_only_a_task_with_a_runner_completes() -> None:
    assert predecessors(S.COMPLETE) <= WITH_RUNNER
    assert predecessors(S.EXECUTOR_ERROR) <= WITH_RUNNER


@given(st.lists(st.sampled_from(TesState), max_size=30))
def test_whatever_is_reported_in_whatever_order_a_final_state_stays(
    reports: list[TesState],
) -> None:
    state, ended = S.QUEUED, None
    for report in reports:
        if state in predecessors(report):
            state = report
        if state in FINAL:
            ended = ended or state
    assert ended is None or state is ended
