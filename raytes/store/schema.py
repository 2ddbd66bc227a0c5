"""The tables. A task's parts stand apart by how they are read and how often they change.

`tasks` is narrow, because lists walk it; what a client sent stands in `documents`, written
once; the attempts' logs, their streams' tails and their system logs change while a task
runs, each at its own pace.
"""

from typing import Any

from sqlalchemy import (
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    text,
)

VERSION = 4
"""Of the schema. A database of an earlier version is brought to this one when it is opened, by
the steps in `raytes.store.migrations` (which says how one is added); one of a later version is
refused, not guessed at."""

# In the order of its code points, as everywhere else: ids sort by age, names by their beginnings.
_TEXT = Text().with_variant(Text(collation="C"), "postgresql")


class _Log(TypeDecorator[str]):
    """What a program has written. PostgreSQL takes no NUL in text: the replacement character
    stands in for it there."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or dialect.name != "postgresql":
            return value
        return value.replace("\0", "\ufffd")


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


metadata = MetaData()

tasks = Table(
    "tasks",
    metadata,
    Column("id", _TEXT, primary_key=True),
    Column("owner", _TEXT, nullable=False),  # "" without authentication
    Column("state", _TEXT, nullable=False),
    Column("name", _TEXT),
    Column("created", _TEXT, nullable=False),  # RFC 3339
    Column("shape", _TEXT, nullable=False),  # what it asks of Ray: dispatch.shape.Shape
    Column("attempt", Integer, nullable=False),  # the last one begun; 0: none yet
    Column("retries", Integer, nullable=False),  # used up
    Column("runner", _TEXT),  # that has the current attempt
    Column("ended", _TEXT),  # RFC 3339: when it reached its final state
    # Each is in the order of a list. The first has the name too: a list by a common prefix
    # walks it, one by a rare prefix sorts what the last one finds.
    Index("tasks_by_id", "owner", "id", "name"),
    Index("tasks_by_state", "owner", "state", "id"),
    Index("tasks_by_name", "owner", "name", "id"),
    # What the dispatcher fetches from. With the state, or SQLite would look into each row.
    Index("tasks_waiting", "owner", "shape", "id", "state", **_where("state = 'QUEUED'")),
    Index("tasks_with_runner", "runner", **_where("runner IS NOT NULL")),
    Index("tasks_by_end", "ended", **_where("ended IS NOT NULL")),
    sqlite_with_rowid=False,
)

documents = Table(
    "documents",
    metadata,
    Column("task_id", _TEXT, primary_key=True),
    # JSON of the TesTask as submitted, but without what BASIC leaves out:
    Column("document", LargeBinary, nullable=False),
    Column("contents", LargeBinary),  # JSON: the inputs' `content` by index; NULL if none has one
)

tags = Table(
    "tags",
    metadata,
    Column("key", _TEXT, primary_key=True),
    Column("task_id", _TEXT, primary_key=True),
    Column("value", _TEXT, nullable=False),
    Index("tags_by_value", "key", "value", "task_id"),
    sqlite_with_rowid=False,
)

attempts = Table(
    "attempts",
    metadata,
    Column("task_id", _TEXT, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("seq", Integer, nullable=False),  # of the last update applied
    # JSON of the TesTaskLog, but without what FULL alone shows:
    Column("log", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

tails = Table(
    "tails",
    metadata,
    Column("task_id", _TEXT, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("executor", Integer, primary_key=True),
    Column("stdout", _Log, nullable=False),
    Column("stderr", _Log, nullable=False),
)

system_logs = Table(
    "system_logs",
    metadata,
    Column("task_id", _TEXT, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("line", _Log, nullable=False),
    sqlite_with_rowid=False,
)

receipts = Table(
    "receipts",
    metadata,
    Column("task_id", _TEXT, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("url", _TEXT, primary_key=True),
    Column("token", _TEXT, primary_key=True),
    sqlite_with_rowid=False,
)
"""What takes back what attempts have staged; gone when an attempt has ended in good order."""

service = Table(
    "service",
    metadata,
    Column("key", _TEXT, primary_key=True),
    Column("value", _TEXT, nullable=False),
)
"""Facts of the service itself: `instance` (the id of this state, a label on every container),
`created`, `updated`, `session`, `drained` (nodes, as JSON), `page_secret`, `schema`,
`checked` (when a look at the health last found that it can be written) and, in PostgreSQL, `writer`
(the store that connected last)."""
