import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from raytes.attempt import Tails, Update
from raytes.config import Settings
from raytes.models import TesState
from raytes.moment import as_text
from raytes.store import changes, retention, schema
from raytes.store.database import DatabaseUnavailable
from raytes.store.retention import Retention
from raytes.views import View
from tests.store.conftest import Database, minimal_task

HOUR = 3600


def ended(database: Database, hours_ago: float) -> str:
    """A task with everything that a task may have, which ended some hours ago."""
    task = database.create(minimal_task(name="n", tags={"a": "1", "b": "2"}), ("a warning",))
    database.change(lambda c: changes.assign(c, task, "r"))
    last = Update(task, 1, 1, TesState.COMPLETE, tails={0: Tails("o", "e")}, system_logs=("l",))
    database.change(lambda c: changes.end(c, last, Settings()))
    receipt = {"task_id": task, "attempt": 1, "url": "s3://bucket/key", "token": "an-upload"}
    database.change(lambda c: c.execute(schema.receipts.insert(), receipt))
    moment = as_text(datetime.now(UTC) - timedelta(hours=hours_ago))
    database.change(
        lambda c: c.execute(
            schema.tasks.update().where(schema.tasks.c.id == task).values(ended=moment)
        )
    )
    return task


def prune(database: Database, kept: Retention, times: int = 1) -> int:
    """How many are forgotten by so many who are at it at once."""

    def submit(change: retention.Change) -> "asyncio.Future[int]":
        return asyncio.wrap_future(database.writer.submit(change))

    async def go() -> int:
        return sum(await asyncio.gather(*(retention.prune(submit, kept) for _ in range(times))))

    return asyncio.run(go())


def there(database: Database, tasks: Sequence[str]) -> list[bool]:
    return [database.reader.get(task, View.FULL) is not None for task in tasks]


def rows(database: Database) -> dict[str, int]:
    return {
        table.name: database.change(
            lambda c, t=table: len(c.execute(t.select()).all())  # type: ignore[misc]
        )
        for table in schema.metadata.sorted_tables
        if table is not schema.service
    }


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (Retention(), [True, True, True]),
        (Retention(age=2.5 * HOUR), [False, True, True]),
        (Retention(count=1), [False, False, True]),
        (Retention(count=5), [True, True, True]),
        (Retention(age=1.5 * HOUR, count=2), [False, False, True]),
        (Retention(age=10 * HOUR, count=2), [False, True, True]),
        (Retention(count=0), [False, False, False]),
    ],
)
def test_what_is_too_old_or_too_many_is_forgotten(
    database: Database, kept: Retention, expected: list[bool]
) -> None:
    tasks = [ended(database, hours) for hours in (3, 2, 1)]
    assert prune(database, kept) == expected.count(False)
    assert there(database, tasks) == expected
    assert prune(database, kept) == 0


def test_nothing_of_a_forgotten_task_is_left(database: Database) -> None:
    ended(database, 1)
    assert 0 not in rows(database).values()
    prune(database, Retention(count=0))
    assert set(rows(database).values()) == {0}


@pytest.mark.parametrize(
    "damaged", [b'{"tags": {', b"[]", b'{"tags": null}', b'{"tags": 5}', b'{"tags": [["a"]]}']
)
def test_a_task_that_is_damaged_is_forgotten_too(database: Database, damaged: bytes) -> None:
    ended(database, 1)
    database.change(lambda c: c.execute(schema.documents.update().values(document=damaged)))
    ended(database, 1)
    assert prune(database, Retention(count=0)) == 2
    assert set(rows(database).values()) == {0}


def test_more_than_fits_one_transaction_is_forgotten_too(database: Database) -> None:
    for _ in range(retention._PIECE + 2):
        database.cancelled()
    assert prune(database, Retention(count=1)) == retention._PIECE + 1


def test_two_who_forget_at_once_keep_what_one_would(database: Database) -> None:
    tasks = [database.cancelled() for _ in range(3 * retention._PIECE)]
    assert prune(database, Retention(count=retention._PIECE), times=2) == 2 * retention._PIECE
    assert sum(there(database, tasks)) == retention._PIECE


def test_what_waits_or_runs_is_kept_whatever_its_age(database: Database) -> None:
    waiting, running, again = (database.create() for _ in range(3))
    for task in (running, again):
        database.change(lambda c, t=task: changes.assign(c, t, "r"))
    failed = Update(again, 1, 1, TesState.SYSTEM_ERROR, retry=True)
    database.change(lambda c: changes.end(c, failed, Settings()))
    assert prune(database, Retention(age=0, count=0)) == 0
    assert there(database, [waiting, running, again]) == [True, True, True]
    beyond_all = retention.Last("9999", "z")
    assert database.change(lambda c: retention.forget(c, beyond_all)) == 0


def test_late_news_of_a_forgotten_task_changes_nothing(database: Database) -> None:
    task = ended(database, 1)
    prune(database, Retention(count=0))
    late = Update(task, 1, 9, TesState.RUNNING, system_logs=("late",))
    assert database.change(lambda c: changes.record(c, late)) is False
    assert set(rows(database).values()) == {0}


def test_the_store_goes_on_forgetting_also_after_the_database_could_not_be_written(
    database: Database,
) -> None:
    tasks = [ended(database, hours) for hours in (2, 1)]
    refusals = iter([DatabaseUnavailable("the disk is full")])
    forgotten = asyncio.Event()

    def submit(change: retention.Change) -> "asyncio.Future[int]":
        if refusal := next(refusals, None):
            raise refusal
        future = asyncio.wrap_future(database.writer.submit(change))
        future.add_done_callback(lambda _: there(database, tasks)[0] or forgotten.set())
        return future

    async def go() -> None:
        pruning = asyncio.create_task(retention.prune_for_ever(submit, Retention(count=1), 0.01))
        await asyncio.wait_for(forgotten.wait(), 30)
        pruning.cancel()

    asyncio.run(go())
    assert there(database, tasks) == [False, True]
