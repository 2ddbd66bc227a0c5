import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, Select, select, text
from sqlalchemy import update as sql_update
from sqlalchemy.dialects import sqlite

from raytes.attempt import Tails, Update
from raytes.config import Settings
from raytes.lifecycle import FINAL
from raytes.models import (
    TesExecutorLog,
    TesFileType,
    TesInput,
    TesResources,
    TesState,
    TesTask,
    TesTaskLog,
)
from raytes.store import changes
from raytes.store.documents import UnreadableDocument
from raytes.store.schema import attempts, documents, system_logs
from raytes.views import View
from tests.store.conftest import Database, minimal_task, new_task


def shown(database: Database, task_id: str, view: View = View.FULL) -> dict[str, Any]:
    document = database.reader.get(task_id, view)
    assert document is not None
    return orjson.loads(document)  # type: ignore[no-any-return]


def assign(database: Database, task_id: str, runner: str = "r") -> int:
    assignment = database.change(lambda c: changes.assign(c, task_id, runner))
    assert assignment is not None
    return assignment.attempt


def record(database: Database, update: Update) -> bool:
    return database.change(lambda c: changes.record(c, update))


def end(database: Database, update: Update, **settings: Any) -> changes.Ended | None:
    return database.change(lambda c: changes.end(c, update, Settings(**settings)))


def update(task_id: str, attempt: int = 1, seq: int = 1, **fields: Any) -> Update:
    return Update(task_id, attempt, seq, **fields)


def test_a_new_task_is_queued(database: Database) -> None:
    assert shown(database, database.create())["state"] == "QUEUED"


def test_creating_a_task_again_changes_nothing(database: Database) -> None:
    new = new_task(minimal_task(tags={"a": "b"}), ("a warning",))
    for _ in range(2):
        database.change(lambda c: changes.create(c, [new]))
    assert shown(database, new.id)["logs"][0]["system_logs"] == ["a warning"]
    assign(database, new.id)
    database.change(lambda c: changes.create(c, [new]))
    assert shown(database, new.id)["state"] == "INITIALIZING"


def test_tasks_for_which_there_is_no_room_are_refused_and_not_stored(database: Database) -> None:
    stored, first, second = (new_task(minimal_task()) for _ in range(3))
    everything = [stored, first, second]
    assert database.change(lambda c: changes.create(c, [stored], room=1)).fresh == 1
    # What is there already takes no room, however often it comes.
    created = database.change(lambda c: changes.create(c, everything, room=1))
    assert created == changes.Created(1, frozenset([second.id]))
    created = database.change(lambda c: changes.create(c, everything, room=0))
    assert created == changes.Created(0, frozenset([second.id]))
    assert database.reader.get(second.id, View.MINIMAL) is None
    assert database.change(lambda c: changes.create(c, everything)).fresh == 1


def test_the_waiting_tasks_of_a_pool_are_found_in_the_order_of_their_age(
    database: Database,
) -> None:
    ids = []
    for owner, shape in (("", "a"), ("", "b"), ("somebody", "a"), ("", "a"), ("", "a")):
        new = replace(new_task(minimal_task()), owner=owner, shape=shape)
        database.change(lambda c, n=new: changes.create(c, [n]))
        ids.append(new.id)

    def oldest(after: str, owner: str = "") -> list[str]:
        pool = changes.Pool(owner, "a")
        found = database.change(lambda c: changes.oldest(c, pool, after, 2))
        assert all(task.pool == pool for task in found)
        return [task.id for task in found]

    assert oldest("") == [ids[0], ids[3]]
    assert oldest(ids[3]) == [ids[4]]
    assert oldest("", "somebody") == [ids[2]]
    assert sorted(database.change(changes.waiting), key=str) == [
        (changes.Pool("", "a"), 3),
        (changes.Pool("", "b"), 1),
        (changes.Pool("somebody", "a"), 1),
    ]
    assign(database, ids[0])
    assert oldest("") == [ids[3], ids[4]]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("statement", [changes.WAITING, changes.OLDEST], ids=["count", "oldest"])
def test_the_queue_is_read_from_an_index_alone(database: Database, statement: Select[Any]) -> None:
    compiled = statement.compile(dialect=sqlite.dialect(paramstyle="named"))
    explained = text(f"EXPLAIN QUERY PLAN {compiled}")
    plan = str(database.change(lambda c: c.execute(explained, compiled.params).all()))
    assert "COVERING INDEX tasks_waiting" in plan
    assert "TEMP B-TREE" not in plan


def steps_of(database: Database, change: Callable[[Connection], object]) -> int:
    """How many steps SQLite's machine takes for a change; a search for a row is a few."""

    def counted(connection: Connection) -> int:
        steps = itertools.count()
        sqlite3 = connection.connection.driver_connection
        assert sqlite3 is not None
        sqlite3.set_progress_handler(lambda: next(steps) and None, 1)
        try:
            change(connection)
        finally:
            sqlite3.set_progress_handler(None, 0)
        return next(steps)

    return database.change(counted)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_create_and_a_cancel_take_no_more_steps_however_many_wait(database: Database) -> None:
    def steps() -> list[int]:
        new = new_task(minimal_task(tags={"a": "b"}), ("a warning",))
        return [
            steps_of(database, lambda c: changes.create(c, [new], room=1)),
            steps_of(database, lambda c: changes.cancel(c, new.id)),
        ]

    before = steps()
    assert all(before)
    new = new_task(minimal_task())
    database.change(
        lambda c: [changes.create(c, [replace(new, id=f"{n:026}") for n in range(10_000)])]
    )
    assert database.change(changes.waiting) == [(changes.Pool("", "a shape"), 10_000)]
    assert steps() == before


def test_the_first_attempt_goes_on_in_the_log_that_a_warning_opened(database: Database) -> None:
    task = database.create(warnings=("a warning",))
    assign(database, task)
    record(database, update(task, system_logs=("another line",)))
    [log] = shown(database, task)["logs"]
    assert log["system_logs"] == ["a warning", "another line"]


def test_an_assignment_is_the_task_as_submitted(database: Database) -> None:
    task = minimal_task(inputs=[TesInput(path="/a", content="text"), TesInput(path="/b", url="/b")])
    task_id = database.create(task)
    assignment = database.change(lambda c: changes.assign(c, task_id, "r"))
    assert assignment is not None
    assert assignment.task.to_dict() == task.to_dict()


def test_a_task_is_assigned_once(database: Database) -> None:
    task = database.create()
    assign(database, task)
    assert database.change(lambda c: changes.assign(c, task, "other")) is None


def test_an_update_is_applied_once_and_in_order(database: Database) -> None:
    task = database.create()
    assign(database, task)
    assert record(database, update(task, seq=2, system_logs=("two",)))
    assert not record(database, update(task, seq=2, system_logs=("two",)))
    assert not record(database, update(task, seq=1, system_logs=("one",)))
    assert shown(database, task)["logs"][0]["system_logs"] == ["two"]


def test_lines_that_are_said_again_are_kept_once(database: Database) -> None:
    task = database.create()
    assign(database, task)
    record(database, update(task, seq=1, system_logs=("one",)))
    # Nobody heard that the first arrived, and the second didn't.
    unconfirmed = ((1, "one"), (2, "two"), (2, "three"))
    last = update(task, seq=3, state=TesState.COMPLETE, unconfirmed=unconfirmed)
    assert end(database, replace(last, system_logs=("four",))) is not None
    assert shown(database, task)["logs"][0]["system_logs"] == ["one", "two", "three", "four"]


def test_an_update_of_an_older_attempt_is_dropped(database: Database) -> None:
    task = database.create()
    assign(database, task)
    end(database, update(task, state=TesState.SYSTEM_ERROR, retry=True))
    assign(database, task)
    late = update(task, attempt=1, seq=9, state=TesState.COMPLETE)
    assert not record(database, late)
    assert end(database, late) is None
    assert shown(database, task)["state"] == "INITIALIZING"


def test_a_running_task_shows_its_log_and_tails(database: Database) -> None:
    task = database.create()
    assign(database, task)
    log = TesTaskLog(
        logs=[TesExecutorLog(exit_code=-1, start_time="2026-01-01T00:00:00Z")], outputs=[]
    )
    news = update(task, state=TesState.RUNNING, log=log, tails={0: Tails("out", "err")})
    record(database, news)
    full, basic = shown(database, task), shown(database, task, View.BASIC)
    assert full["state"] == basic["state"] == "RUNNING"
    executor = {"exit_code": -1, "start_time": "2026-01-01T00:00:00Z"}
    assert basic["logs"] == [{"logs": [executor], "outputs": []}]
    assert full["logs"][0]["logs"] == [{**executor, "stdout": "out", "stderr": "err"}]


def test_types_found_on_disk_replace_those_in_the_document(database: Database) -> None:
    task = database.create(minimal_task(inputs=[TesInput(path="/a", url="/a", name="n")]))
    assign(database, task)
    record(database, update(task, input_types={0: TesFileType.DIRECTORY}))
    [found] = shown(database, task, View.BASIC)["inputs"]
    assert found == {"path": "/a", "url": "/a", "name": "n", "type": "DIRECTORY"}


@pytest.mark.parametrize(
    "state", [TesState.COMPLETE, TesState.EXECUTOR_ERROR, TesState.SYSTEM_ERROR]
)
def test_an_attempt_ends_its_task(database: Database, state: TesState) -> None:
    task = database.create()
    assign(database, task)
    ended = end(database, update(task, state=state))
    assert ended is not None
    assert ended.state is state
    assert end(database, update(task, seq=2, state=TesState.COMPLETE)) is None
    assert shown(database, task)["state"] == state


@pytest.mark.parametrize(
    ("settings", "retries"), [({}, 2), ({"max_retries": 0}, 0), ({"max_retries": 1}, 1)]
)
def test_a_fault_is_tried_again_as_often_as_is_set_and_twice_by_default(
    database: Database, settings: dict[str, int], retries: int
) -> None:
    task = database.create()
    states = []
    for number in range(1, retries + 2):
        assert assign(database, task) == number
        failed = update(task, attempt=number, state=TesState.SYSTEM_ERROR, retry=True)
        ended = end(database, failed, **settings)
        assert ended is not None
        states.append(ended.state)
    assert states == [TesState.QUEUED] * retries + [TesState.SYSTEM_ERROR]
    assert len(shown(database, task)["logs"]) == retries + 1


def test_a_task_may_choose_its_retries(database: Database) -> None:
    chosen = TesResources(backend_parameters={"max_retries": "0"})
    task = database.create(minimal_task(resources=chosen))
    assign(database, task)
    ended = end(database, update(task, state=TesState.SYSTEM_ERROR, retry=True), max_retries=2)
    assert ended is not None
    assert ended.state is TesState.SYSTEM_ERROR


def test_an_assignment_says_how_long_the_task_has_waited(database: Database) -> None:
    hour, half = "2020-01-01T00:00:00.000Z", "2020-01-01T00:30:00.000Z"
    task = replace(new_task(minimal_task()), created=hour)
    database.change(lambda c: changes.create(c, [task]))
    waits = []
    for number in (1, 2):
        assignment = database.change(lambda c: changes.assign(c, task.id, "r"))
        assert assignment is not None
        waits.append(assignment.queue_seconds)
        log = TesTaskLog(logs=[], outputs=[], end_time=half)
        end(database, update(task.id, number, state=TesState.QUEUED, log=log, retry=True))
    assert waits[0] - waits[1] == pytest.approx(1800, abs=60)


def test_an_attempt_that_was_given_back_costs_no_retry(database: Database) -> None:
    task = database.create()
    assign(database, task)
    ended = end(database, update(task, state=TesState.QUEUED, retry=True), max_retries=0)
    assert ended is not None
    assert (ended.state, ended.retries) == (TesState.QUEUED, 0)
    assert assign(database, task) == 2


def test_a_queued_task_is_cancelled_at_once(database: Database) -> None:
    task = database.create()
    assert database.change(lambda c: changes.cancel(c, task)) == (TesState.QUEUED, None)
    assert shown(database, task)["state"] == "CANCELED"
    assert database.change(lambda c: changes.assign(c, task, "r")) is None


@pytest.mark.parametrize("last", [TesState.COMPLETE, TesState.SYSTEM_ERROR, TesState.QUEUED])
def test_a_cancelled_task_is_canceled_whatever_its_runner_says(
    database: Database, last: TesState
) -> None:
    task = database.create()
    assign(database, task, "the runner")
    assert database.change(lambda c: changes.cancel(c, task)) == (
        TesState.INITIALIZING,
        changes.Running(task, 1, "the runner", canceling=True),
    )
    assert shown(database, task)["state"] == "CANCELING"
    record(database, update(task, state=TesState.RUNNING))
    assert shown(database, task)["state"] == "CANCELING"
    ended = end(database, update(task, seq=2, state=last, retry=True))
    assert ended is not None
    assert ended.state is TesState.CANCELED


def test_cancelling_a_task_that_has_ended_changes_nothing(database: Database) -> None:
    task = database.create()
    assign(database, task)
    end(database, update(task, state=TesState.COMPLETE))
    assert database.change(lambda c: changes.cancel(c, task)) == (TesState.COMPLETE, None)
    assert shown(database, task)["state"] == "COMPLETE"


def test_cancelling_what_is_not_there_says_so(database: Database) -> None:
    assert database.change(lambda c: changes.cancel(c, "nothing")) is None


def test_an_attempt_whose_runner_died_keeps_what_it_said(database: Database) -> None:
    task = database.create()
    assign(database, task)
    log = TesTaskLog(logs=[TesExecutorLog(exit_code=0)], outputs=[], metadata={"node": "n"})
    record(database, update(task, log=log, system_logs=("said",)))
    dead = changes.Running(task, 1, "r")
    loss = changes.Loss("runner_lost", "The runner died.")
    ended = database.change(lambda c: changes.lose(c, dead, loss, Settings()))
    assert ended is not None
    assert (ended.state, ended.retries) == (TesState.QUEUED, 1)
    [log] = shown(database, task)["logs"]
    assert log["metadata"] == {"node": "n", "failure_reason": "runner_lost"}
    assert log["logs"] == [{"exit_code": 0}]
    assert "end_time" in log
    assert len(log["system_logs"]) == 2


def lose(database: Database, task: str, attempt: int, reason: str) -> changes.Ended:
    loss = changes.Loss(reason, "It is gone.")
    ended = database.change(
        lambda c: changes.lose(c, changes.Running(task, attempt, "r"), loss, Settings())
    )
    assert ended is not None
    return ended


def test_a_reclaimed_node_uses_up_no_retry_until_there_were_too_many(database: Database) -> None:
    task = database.create()
    used = []
    state = TesState.QUEUED
    while state is TesState.QUEUED:
        ended = lose(database, task, assign(database, task), changes.PREEMPTED)
        state = ended.state
        used.append(ended.retries)
    assert used == [0] * changes.MAX_PREEMPTIONS + [1, 2, 2]
    full = shown(database, task)
    assert full["state"] == "SYSTEM_ERROR"
    assert full["logs"][-1]["metadata"]["failure_reason"] == "preempted"


@pytest.fixture(params=["document", "contents"])
def damaged(request: pytest.FixtureRequest, database: Database) -> str:
    """A task of which what is stored can't be read, at its first attempt."""
    task = database.create(minimal_task(inputs=[TesInput(path="/in", content="in")]))
    assign(database, task)
    damage(database, task, request.param)
    return task


def damage(database: Database, task: str, part: str) -> None:
    spoiled = {"document": b'{"executors": 1}', "contents": b'{"7": "in"}'}
    spoil = sql_update(documents).where(documents.c.task_id == task)
    database.change(lambda c: c.execute(spoil.values({part: spoiled[part]})))


def blamed(database: Database, ended: changes.Ended | None) -> dict[str, Any]:
    """The log of a task that ended because it can't be read."""
    assert ended is not None
    assert (ended.state, ended.retries) == (TesState.SYSTEM_ERROR, 0)
    assert database.change(changes.with_runner) == []
    rows = database.change(lambda c: c.execute(select(attempts.c.log)).scalars().all())
    [log] = (orjson.loads(row) for row in rows)
    assert log["metadata"]["failure_reason"] == "internal_error"
    lines = database.change(lambda c: c.execute(select(system_logs.c.line)).scalars().all())
    assert "can't be read by raytes" in lines[-1]
    return log  # type: ignore[no-any-return]


def test_an_attempt_at_a_task_that_can_not_be_read_ends_and_is_not_tried_again(
    database: Database, damaged: str
) -> None:
    log = TesTaskLog(logs=[], outputs=[], metadata={"node": "n", "failure_reason": "disk_full"})
    last = update(damaged, state=TesState.SYSTEM_ERROR, log=log, retry=True)
    last = replace(last, input_types={0: TesFileType.FILE})
    assert blamed(database, end(database, last))["metadata"]["node"] == "n"


def test_an_attempt_at_a_task_that_can_not_be_read_is_lost_for_good(
    database: Database, damaged: str
) -> None:
    blamed(database, lose(database, damaged, 1, "runner_lost"))


def test_a_task_that_can_not_be_read_is_neither_begun_nor_taken_up(
    database: Database, damaged: str
) -> None:
    with pytest.raises(UnreadableDocument):
        database.change(lambda c: changes.resume(c, damaged, 1))
    end(database, update(damaged, state=TesState.QUEUED))
    with pytest.raises(UnreadableDocument):
        database.change(lambda c: changes.assign(c, damaged, "r"))


def damage_log(database: Database, task: str) -> None:
    spoil = sql_update(attempts).where(attempts.c.task_id == task).values(log=b'{"logs": [')
    database.change(lambda c: c.execute(spoil))


@pytest.mark.parametrize("reason", ["runner_lost", changes.PREEMPTED])
def test_an_attempt_of_which_the_log_is_damaged_is_lost_like_others(
    database: Database, reason: str
) -> None:
    task = database.create()
    assign(database, task)
    damage_log(database, task)
    assert lose(database, task, 1, reason).state is TesState.QUEUED
    [log] = shown(database, task)["logs"]
    assert log["metadata"] == {"failure_reason": reason}
    assert "can't be read" in log["system_logs"][-1]


def test_a_task_goes_on_after_an_attempt_of_which_the_log_is_damaged(database: Database) -> None:
    task = database.create()
    assign(database, task)
    end(database, update(task, state=TesState.QUEUED))
    damage_log(database, task)
    assert assign(database, task) == 2
    assert lose(database, task, 2, changes.PREEMPTED).state is TesState.QUEUED


def test_a_stop_of_the_service_uses_up_no_retry(database: Database) -> None:
    task = database.create()
    for _ in range(5):
        ended = lose(database, task, assign(database, task), changes.SERVICE_STOPPED)
        assert (ended.state, ended.retries) == (TesState.QUEUED, 0)


def test_a_queued_task_is_told_what_it_waits_for_in_the_log_of_its_next_attempt(
    database: Database,
) -> None:
    task = database.create()
    database.change(lambda c: changes.note(c, task, "wait"))
    [first] = shown(database, task)["logs"]
    assert first["system_logs"][0].endswith("wait")
    assign(database, task)
    database.change(lambda c: changes.note(c, task, "too late"))
    lose(database, task, 1, "runner_lost")
    database.change(lambda c: changes.note(c, task, "wait again"))
    assert assign(database, task) == 2
    first, second = shown(database, task)["logs"]
    assert len(first["system_logs"]) == 2
    assert second["system_logs"][0].endswith("wait again")


def test_a_task_that_can_never_be_tried_again_keeps_what_its_attempts_said(
    database: Database,
) -> None:
    task = database.create()
    assign(database, task)
    lose(database, task, 1, "runner_lost")
    database.change(lambda c: changes.refuse(c, task, "infeasible", "too large"))
    first, second = shown(database, task)["logs"]
    assert first["metadata"]["failure_reason"] == "runner_lost"
    assert second["metadata"]["failure_reason"] == "infeasible"


def test_a_task_that_can_never_run_is_refused_with_a_reason(database: Database) -> None:
    task = database.create()
    assert database.change(lambda c: changes.refuse(c, task, "infeasible", "too large"))
    full = shown(database, task)
    assert full["state"] == "SYSTEM_ERROR"
    [log] = full["logs"]
    assert log["metadata"] == {"failure_reason": "infeasible"}
    assert log["system_logs"][0].endswith("too large")


def test_what_is_unfinished_is_found_after_a_restart(database: Database) -> None:
    queued, running, canceling, done = (database.create() for _ in range(4))
    for task in (running, canceling, done):
        assign(database, task, f"runner of {task}")
    database.change(lambda c: changes.cancel(c, canceling))
    end(database, update(done, state=TesState.COMPLETE))
    pool = changes.Pool("", "a shape")
    assert database.change(changes.waiting) == [(pool, 1)]
    assert database.change(lambda c: changes.oldest(c, pool, "", 9)) == [
        changes.Queued(queued, pool)
    ]
    assert sorted(database.change(changes.with_runner), key=lambda task: task.id) == [
        changes.Running(running, 1, f"runner of {running}"),
        changes.Running(canceling, 1, f"runner of {canceling}", canceling=True),
    ]


def test_a_change_that_fails_takes_none_of_its_batch_with_it(database: Database) -> None:
    good, bad = new_task(minimal_task()), new_task(minimal_task())

    def fail(connection: object) -> None:
        raise RuntimeError("a mistake")

    futures = [
        database.writer.submit(lambda c, n=new: changes.create(c, [n])) for new in (good, bad)
    ]
    failing = database.writer.submit(fail)
    with pytest.raises(RuntimeError, match="a mistake"):
        failing.result()
    assert [future.result().fresh for future in futures] == [1, 1]
    assert shown(database, good.id)["state"] == "QUEUED"


def test_no_final_state_is_left(database: Database) -> None:
    for state in FINAL - {TesState.CANCELED}:
        task = database.create()
        assign(database, task)
        end(database, update(task, state=state))
        for after in TesState:
            record(database, update(task, seq=5, state=after))
            end(database, update(task, seq=6, state=after))
        assert shown(database, task)["state"] == state


def test_full_shows_what_was_submitted(database: Database) -> None:
    sent = TesTask.model_validate(
        {
            "name": "n",
            "inputs": [{"path": "/a", "content": ""}, {"path": "/b", "url": "/b"}],
            "executors": [{"image": "i", "command": ["c"]}],
        }
    )
    full = shown(database, database.create(sent))
    assert {key: full[key] for key in sent.to_dict()} == sent.to_dict()
    assert full["inputs"][0]["content"] == ""
    basic = shown(database, full["id"], View.BASIC)
    assert "content" not in basic["inputs"][0]
    assert shown(database, full["id"], View.MINIMAL) == {"id": full["id"], "state": "QUEUED"}
