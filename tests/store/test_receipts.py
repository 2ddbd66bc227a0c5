"""Who may store outputs, and what the next attempt is told of what others have staged."""

import pytest
from sqlalchemy import Connection, func, select

from raytes.attempt import Assignment, Receipt, Update
from raytes.config import Settings
from raytes.models import TesState
from raytes.store import changes, schema
from raytes.store.changes import Ended, Loss, Running
from tests.store.conftest import Database

SETTINGS = Settings(max_retries=1)
UPLOAD = Receipt("s3://bucket/out", "an-upload")
OTHER = Receipt("s3://bucket/other", "another")


def begin(database: Database, task_id: str) -> Assignment:
    assignment = database.change(lambda c: changes.assign(c, task_id, "runner"))
    assert assignment is not None
    return assignment


def authorize(database: Database, task_id: str, attempt: int, *receipts: Receipt) -> bool:
    return database.change(lambda c: changes.authorize(c, task_id, attempt, receipts))


def lose(database: Database, task_id: str, attempt: int) -> Ended:
    def change(connection: Connection) -> Ended | None:
        task = Running(task_id, attempt, "runner")
        return changes.lose(connection, task, Loss("runner_lost", "It is gone."), SETTINGS)

    ended = database.change(change)
    assert ended is not None
    return ended


def end(database: Database, task_id: str, attempt: int, state: TesState) -> Ended:
    last = Update(task_id, attempt, seq=100, state=state)
    ended = database.change(lambda c: changes.end(c, last, SETTINGS))
    assert ended is not None
    return ended


def kept(database: Database) -> int:
    count = select(func.count()).select_from(schema.receipts)
    return database.change(lambda c: c.execute(count).scalar_one())


def test_the_attempt_that_is_at_work_may_store_its_outputs(database: Database) -> None:
    task_id = database.create()
    assert not authorize(database, task_id, 0)
    begin(database, task_id)
    assert authorize(database, task_id, 1)
    assert not authorize(database, task_id, 2)
    assert not authorize(database, "no-such-task", 1)


def test_what_is_being_cancelled_may_store_nothing_more(database: Database) -> None:
    task_id = database.create()
    begin(database, task_id)
    database.change(lambda c: changes.cancel(c, task_id))
    assert not authorize(database, task_id, 1, UPLOAD)
    assert kept(database) == 0


def test_an_attempt_that_was_given_up_may_store_nothing_more(database: Database) -> None:
    task_id = database.create()
    begin(database, task_id)
    lose(database, task_id, 1)
    assert not authorize(database, task_id, 1, UPLOAD)  # while the task waits
    begin(database, task_id)
    assert not authorize(database, task_id, 1, UPLOAD)  # and when another attempt is at work
    assert kept(database) == 0


def test_the_next_attempt_gets_the_receipts_of_those_that_were_given_up(
    database: Database,
) -> None:
    task_id = database.create()
    assert begin(database, task_id).receipts == ()
    authorize(database, task_id, 1, UPLOAD)
    authorize(
        database, task_id, 1, UPLOAD, OTHER
    )  # an answer may be lost and the question come twice
    assert not lose(database, task_id, 1).may_have_staged  # there is a next attempt for it
    assert set(begin(database, task_id).receipts) == {UPLOAD, OTHER}
    assert set(database.change(lambda c: changes.assignment(c, task_id, 2)).receipts) == {
        UPLOAD,
        OTHER,
    }


@pytest.mark.parametrize("state", [TesState.COMPLETE, TesState.EXECUTOR_ERROR])
def test_of_an_attempt_that_has_stored_its_outputs_no_receipt_is_left(
    database: Database, state: TesState
) -> None:
    task_id = database.create()
    begin(database, task_id)
    authorize(database, task_id, 1, UPLOAD)
    assert not end(database, task_id, 1, state).may_have_staged
    assert kept(database) == 0


@pytest.mark.parametrize("state", [TesState.SYSTEM_ERROR, TesState.CANCELED])
def test_what_an_attempt_that_has_stored_less_may_have_left_is_told(
    database: Database, state: TesState
) -> None:
    task_id = database.create()
    begin(database, task_id)
    authorize(database, task_id, 1, UPLOAD)
    if state is TesState.CANCELED:
        database.change(lambda c: changes.cancel(c, task_id))
    ended = end(database, task_id, 1, state)
    assert (ended.state, ended.may_have_staged) == (state, True)
    assert database.change(changes.unrevoked) == [task_id]


def test_an_attempt_that_is_given_back_leaves_its_receipts_to_the_next(database: Database) -> None:
    task_id = database.create()
    begin(database, task_id)
    authorize(database, task_id, 1, UPLOAD)
    end(database, task_id, 1, TesState.QUEUED)
    assert begin(database, task_id).receipts == (UPLOAD,)


@pytest.mark.parametrize(
    ("state", "fenced"), [(TesState.SYSTEM_ERROR, False), (TesState.EXECUTOR_ERROR, True)]
)
def test_a_later_attempt_that_may_not_have_fenced_off_the_others_is_told(
    database: Database, state: TesState, fenced: bool
) -> None:
    task_id = database.create()
    begin(database, task_id)
    lose(database, task_id, 1)
    begin(database, task_id)
    assert end(database, task_id, 2, state).may_have_staged is not fenced


@pytest.mark.parametrize("attempts", [0, 1])
def test_a_refused_task_may_have_left_something_if_it_was_tried(
    database: Database, attempts: int
) -> None:
    task_id = database.create()
    if attempts:
        begin(database, task_id)
        lose(database, task_id, 1)
    refused = database.change(lambda c: changes.refuse(c, task_id, "infeasible", "no node"))
    assert refused is not None
    assert (refused.state, refused.may_have_staged) == (TesState.SYSTEM_ERROR, bool(attempts))


def test_what_the_last_attempt_has_staged_is_told_when_it_is_given_up(database: Database) -> None:
    task_id = database.create()
    for attempt in (1, 2):
        begin(database, task_id)
        ended = lose(database, task_id, attempt)
    assert (ended.state, ended.may_have_staged) == (TesState.SYSTEM_ERROR, True)


def test_receipts_outlive_the_end_of_a_task_until_they_are_used(database: Database) -> None:
    task_id = database.create()
    begin(database, task_id)
    authorize(database, task_id, 1, UPLOAD)
    lose(database, task_id, 1)
    assert database.change(changes.unrevoked) == []
    begin(database, task_id)
    assert end(database, task_id, 2, TesState.COMPLETE).may_have_staged

    assert database.change(changes.unrevoked) == [task_id]
    given_up = database.change(lambda c: changes.given_up(c, task_id))
    assert given_up is not None
    assert (given_up.attempt, given_up.receipts) == (3, (UPLOAD,))
    database.change(lambda c: changes.forget_receipts(c, task_id))
    assert database.change(changes.unrevoked) == []


def test_a_task_that_never_ran_has_nothing_to_take_back(database: Database) -> None:
    task_id = database.create()
    assert database.change(lambda c: changes.given_up(c, task_id)) is None
