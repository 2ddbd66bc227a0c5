"""Retention: which ended tasks are forgotten, and their removal in small pieces.

No state of a task is changed here: what has ended is there, and then it isn't.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import orjson
from sqlalchemy import (
    BindParameter,
    Connection,
    Text,
    and_,
    bindparam,
    delete,
    func,
    select,
    tuple_,
)

from raytes.moment import as_text
from raytes.store.database import DatabaseUnavailable
from raytes.store.schema import attempts, documents, receipts, system_logs, tags, tails, tasks

# How many tasks one transaction removes: a few milliseconds, for which others wait to write.
_PIECE = 25
_PAUSE_S = 0.02

Change = Callable[[Connection], Any]
Submit = Callable[[Change], "asyncio.Future[Any]"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retention:
    """Which ended tasks are kept: those that are both young and few enough."""

    age: float | None = None  # seconds since they ended; None: of any age
    count: int | None = None  # the last ones to end; None: however many

    def __bool__(self) -> bool:
        """Whether anything is forgotten at all."""
        return self.age is not None or self.count is not None


@dataclass(frozen=True, slots=True, order=True)
class Last:
    """The last task that is to be forgotten: all that ended before it are too."""

    ended: str
    id: str


async def prune_for_ever(submit: Submit, kept: Retention, every_s: float = 60.0) -> None:
    """Remove what is not to be kept, now and again."""
    while True:
        try:
            if removed := await prune(submit, kept):
                logger.info("%d ended tasks were not to be kept any longer", removed)
        except DatabaseUnavailable as error:
            logger.warning("ended tasks could not be removed: %s", error)
        except Exception:
            logger.exception("ended tasks could not be removed")
        await asyncio.sleep(every_s)


async def prune(submit: Submit, kept: Retention) -> int:
    """Remove what is not to be kept, in transactions between which others write; how many.

    Raises:
        DatabaseUnavailable: the database can't be written now.
    """
    # Found once, as it takes a while, and named, as somebody else may be at it too: who forgot so
    # many, whichever, would forget what is to be kept.
    last: Last | None = await submit(partial(last_outlived, kept=kept))
    removed = 0
    while last and (piece := await submit(partial(forget, last=last))):
        removed += piece
        await asyncio.sleep(_PAUSE_S)
    return removed


def outlived(connection: Connection, kept: Retention) -> int:
    """How many ended tasks are not to be kept. It is always those that ended first."""
    if (last := last_outlived(connection, kept)) is None:
        return 0
    return connection.execute(_HOW_MANY, asdict(last)).scalar_one()


def last_outlived(connection: Connection, kept: Retention) -> Last | None:
    """The last of those; None: all are to be kept.

    Each limit is looked for in one statement and from the end that is kept: whoever forgets
    meanwhile changes nothing about it.
    """
    found: list[Any] = []
    if kept.age is not None:
        before = as_text(datetime.now(UTC) - timedelta(seconds=kept.age))
        found += connection.execute(_LAST_BEFORE, {"before": before}).all()
    if kept.count is not None:
        found += connection.execute(_FIRST_BEYOND, {"count": kept.count}).all()
    return max((Last(row.ended, row.id) for row in found), default=None)


def forget(connection: Connection, last: Last) -> int:
    """Remove some of the tasks up to `last`, those that ended first, with all that is known of
    them; how many there were."""
    ids = connection.execute(_FIRST, asdict(last)).scalars().all()
    tagged, damaged = [], []
    for task_id in ids:  # one after the other: documents may be large
        document = connection.execute(_DOCUMENT, {"task": task_id}).scalar()
        try:
            keys = list(dict(orjson.loads(document or b"").get("tags", {})))
        except (ValueError, AttributeError, TypeError):
            damaged.append({"task": task_id})
        else:
            tagged += [{"task": task_id, "of_key": key} for key in keys]
    if tagged:
        connection.execute(_NO_TAG, tagged)
    if damaged:
        connection.execute(_NO_TAGS, damaged)
    for removal in _REMOVALS:
        connection.execute(removal, {"ids": ids})
    return len(ids)


# By the id where several ended in the same millisecond.
_ORDER = tasks.c.ended, tasks.c.id

_LAST = tuple_(bindparam("ended", type_=Text), bindparam("id", type_=Text))

_BACKWARDS = tasks.c.ended.desc(), tasks.c.id.desc()

_LAST_BEFORE = (
    select(*_ORDER).where(tasks.c.ended < bindparam("before")).order_by(*_BACKWARDS).limit(1)
)

_FIRST_BEYOND = (
    select(*_ORDER)
    .where(tasks.c.ended.is_not(None))
    .order_by(*_BACKWARDS)
    .offset(bindparam("count"))
    .limit(1)
)

_UP_TO_LAST = and_(tasks.c.ended.is_not(None), tuple_(*_ORDER) <= _LAST)

_HOW_MANY = select(func.count()).where(_UP_TO_LAST)

_FIRST = select(tasks.c.id).where(_UP_TO_LAST).order_by(*_ORDER).limit(_PIECE)

_DOCUMENT = select(documents.c.document).where(documents.c.task_id == bindparam("task"))

# The table's key begins with that of the tag: only with it is a row found without a search.
_NO_TAG = delete(tags).where(tags.c.key == bindparam("of_key"), tags.c.task_id == bindparam("task"))

# A search all the same, of a task of which nothing says which tags it has.
_NO_TAGS = delete(tags).where(tags.c.task_id == bindparam("task"))

_IDS: BindParameter[str] = bindparam("ids", expanding=True)
_REMOVALS = [
    delete(table).where(table.c.task_id.in_(_IDS))
    for table in (documents, attempts, tails, system_logs, receipts)
] + [delete(tasks).where(tasks.c.id.in_(_IDS))]
