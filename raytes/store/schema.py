"""The tables. A task's parts stand apart by how they are read and how often they change.

`tasks` is narrow, because lists walk it; what a client sent stands in `documents`, written
once; the attempts' logs, their streams' tails and their system logs change while a task
runs, each at its own pace.
"""

from sqlalchemy import Column, Index, Integer, LargeBinary, MetaData, Table, Text, text

VERSION = 4
"""Of the schema. A database of an earlier version is brought to this one when it is opened, by
the steps in `raytes.store.migrations` (which says how one is added); one of a later version is
refused, not guessed at."""

metadata = MetaData()

tasks = Table(
    "tasks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),  # "" without authentication
    Column("state", Text, nullable=False),
    Column("name", Text),
    Column("created", Text, nullable=False),  # RFC 3339
    Column("shape", Text, nullable=False),  # what it asks of Ray: dispatch.shape.Shape
    Column("attempt", Integer, nullable=False),  # the last one begun; 0: none yet
    Column("retries", Integer, nullable=False),  # used up
    Column("runner", Text),  # that has the current attempt
    Column("ended", Text),  # RFC 3339: when it reached its final state
    # Each is in the order of a list. The first has the name too: a list by a common prefix
    # walks it, one by a rare prefix sorts what the last one finds.
    Index("tasks_by_id", "owner", "id", "name"),
    Index("tasks_by_state", "owner", "state", "id"),
    Index("tasks_by_name", "owner", "name", "id"),
    # What the dispatcher fetches from. With the state, or SQLite would look into each row.
    Index("tasks_waiting", "owner", "shape", "id", "state", sqlite_where=text("state = 'QUEUED'")),
    Index("tasks_with_runner", "runner", sqlite_where=text("runner IS NOT NULL")),
    Index("tasks_by_end", "ended", sqlite_where=text("ended IS NOT NULL")),
    sqlite_with_rowid=False,
)

documents = Table(
    "documents",
    metadata,
    Column("task_id", Text, primary_key=True),
    # JSON of the TesTask as submitted, but without what BASIC leaves out:
    Column("document", LargeBinary, nullable=False),
    Column("contents", LargeBinary),  # JSON: the inputs' `content` by index; NULL if none has one
)

tags = Table(
    "tags",
    metadata,
    Column("key", Text, primary_key=True),
    Column("task_id", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Index("tags_by_value", "key", "value", "task_id"),
    sqlite_with_rowid=False,
)

attempts = Table(
    "attempts",
    metadata,
    Column("task_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("seq", Integer, nullable=False),  # of the last update applied
    # JSON of the TesTaskLog, but without what FULL alone shows:
    Column("log", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

tails = Table(
    "tails",
    metadata,
    Column("task_id", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("executor", Integer, primary_key=True),
    Column("stdout", Text, nullable=False),
    Column("stderr", Text, nullable=False),
)

system_logs = Table(
    "system_logs",
    metadata,
    Column("task_id", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("line", Text, nullable=False),
    sqlite_with_rowid=False,
)

receipts = Table(
    "receipts",
    metadata,
    Column("task_id", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("url", Text, primary_key=True),
    Column("token", Text, primary_key=True),
    sqlite_with_rowid=False,
)
"""What takes back what attempts have staged; gone when an attempt has ended in good order."""

service = Table(
    "service",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Facts of the service itself: `instance` (the id of this state, a label on every container),
`created`, `updated`, `session`, `page_secret`, `schema`."""
