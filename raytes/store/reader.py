"""What the API reads: tasks in each view and pages of them, as JSON, straight from the tables.

Readers never change anything and never wait for the writer. Every answer is made from one
snapshot, so that a task's state and its logs agree.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import add
from typing import Any

import orjson
from sqlalchemy import (
    JSON,
    BindParameter,
    ColumnElement,
    CompoundSelect,
    Connection,
    Dialect,
    Integer,
    LargeBinary,
    Select,
    bindparam,
    cast,
    func,
    null,
    select,
    union_all,
)
from sqlalchemy.exc import OperationalError

from raytes.store.changes import recall
from raytes.store.database import Database, DatabaseUnavailable
from raytes.store.pages import Filters, issue, redeem
from raytes.store.schema import attempts, documents, system_logs, tags, tails, tasks
from raytes.views import View

# No index is in the order of ids and of names at once. Up to so many tasks, it is quickest to
# sort what a name prefix finds; then to look among so many of the newest; if too few of them have
# the prefix, to sort after all, up to so many; and then to walk all from the newest on.
_FEW = 500
_NEWEST = 4_000
_SOME = 100_000

# What the documents of one page may come to, in bytes, contents and logs included: the page is
# put together in memory, and a single task may have megabytes. It is never less than one task.
_PAGE_BYTES = 64 * 2**20

# Shown in place of what is damaged.
_NO_DOCUMENT = b'{"description":"What was submitted is damaged in the database.","executors":[]}'
_NO_LOG = b'{"logs":[],"outputs":[],"metadata":{"damaged":"This log is damaged in the database."}}'

Row = Sequence[Any]
Fetch = Callable[[str], Iterable[Row]]
"""Fetches one of the parts in `_PARTS` for the tasks at hand."""


class Reader:
    """Reads one service's database. Safe to use from several threads.

    Every method raises DatabaseUnavailable where the database can't be read now.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._engine = database.reading()
        self._secret = b""
        dialect = self._engine.dialect
        of_one, of_many = _equals(bindparam("task")), _in(bindparam("ids", type_=JSON), dialect)
        self._one = {
            name: str(part(of_one).compile(dialect=dialect)) for name, part in _PARTS.items()
        }
        self._many = {name: part(of_many) for name, part in _PARTS.items()}

    def facts(self) -> dict[str, str]:
        """What the store remembers of the service: instance, created, updated …"""
        with self._readable(), self._engine.connect() as connection:
            return recall(connection)

    def get(self, task_id: str, view: View) -> bytes | None:
        """The task as JSON, or None if there is none of that id."""
        if "\0" in task_id:  # which PostgreSQL takes in no text
            return None
        with self._readable(), self._database.snapshot(self._engine) as cursor:

            def fetch(part: str) -> list[Row]:
                rows: list[Row] = cursor.execute(self._one[part], {"task": task_id}).fetchall()
                return rows

            found = fetch("task")
            return _documents(fetch, found, view)[0] if found else None

    def page(self, filters: Filters, size: int, token: str | None, view: View) -> bytes:
        """A ListTasksResponse as JSON: the newest first, at most `size` tasks, and fewer where
        these are large.

        Raises:
            InvalidPageToken: `token` isn't one that was issued for these filters.
        """
        before = redeem(token, filters, self._page_secret()) if token else None
        with self._readable(), self._engine.connect() as connection:
            found = _rows(connection, filters, before, size + 1)
            ids = [task_id for task_id, *_ in found[:size]]

            def fetch(part: str) -> Iterable[Row]:
                return connection.execute(self._many[part], {"ids": ids})

            if view is not View.MINIMAL and len(ids) > 1:
                ids = ids[: _fitting(ids, fetch("sizes_full" if view is View.FULL else "sizes"))]
            shown = found[: len(ids)]
            answer = b'{"tasks":[' + b",".join(_documents(fetch, shown, view)) + b"]"
        if len(found) > len(shown):
            next_token = issue(ids[-1], filters, self._page_secret())
            answer += b',"next_page_token":' + orjson.dumps(next_token)
        return answer + b"}"

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if (said := self._database.passing(error)) is None:
                raise
            raise DatabaseUnavailable(f"the database can't be read: {said}") from error

    def _page_secret(self) -> bytes:
        if not self._secret:
            self._secret = self.facts()["page_secret"].encode()
        return self._secret


# --- which tasks ----------------------------------------------------------------------


def _rows(
    connection: Connection, filters: Filters, before: str | None, limit: int
) -> Sequence[Row]:
    """The newest tasks older than `before` that the filters let through."""
    if filters.name_prefix and not filters.tags:
        return _named(connection, filters, before, limit)
    return connection.execute(_matching(filters, before).limit(limit)).all()


def _matching(filters: Filters, before: str | None) -> Select[Any]:
    statement = _ROW.where(tasks.c.owner == filters.owner)
    newest_first: ColumnElement[str] = tasks.c.id
    for index, (key, value) in enumerate(filters.tags):
        tag = tags.alias(f"tag{index}")
        statement = statement.join(tag, tag.c.task_id == tasks.c.id).where(tag.c.key == key)
        if value:
            statement = statement.where(tag.c.value == value)
        if index == 0:
            # One of the tag's own indexes is in this order, so it is walked, not sorted.
            newest_first = tag.c.task_id
    if filters.state:
        statement = statement.where(tasks.c.state == filters.state)
    statement = statement.where(*_begins(tasks.c.name, filters.name_prefix))
    if before is not None:
        statement = statement.where(newest_first < before)
    return statement.order_by(newest_first.desc())


def _named(
    connection: Connection, filters: Filters, before: str | None, limit: int
) -> Sequence[Row]:
    """As `_rows`, by a prefix of the name, and by no tag."""
    prefix = filters.name_prefix
    theirs = [tasks.c.owner == filters.owner]
    if filters.state:
        theirs.append(tasks.c.state == filters.state)
    if before is not None:
        theirs.append(tasks.c.id < before)
    # An empty addition keeps the database from choosing the index that is in this order.
    all_of_name = (
        select(tasks.c.id)
        .where(*theirs, *_begins(tasks.c.name, prefix))
        .order_by(tasks.c.id.concat("").desc())
    )
    newest_first = select(tasks.c.id).where(*theirs).order_by(tasks.c.id.desc())

    def rows(ids: Select[Any]) -> Sequence[Row]:
        # Ids first, since an index has them with the names; only then what is shown of each.
        chosen = tasks.c.id.in_(ids.limit(limit))
        return connection.execute(_ROW.where(chosen).order_by(tasks.c.id.desc())).all()

    if not _more_begin(connection, filters, _FEW):
        return rows(all_of_name)
    newest = newest_first.add_columns(tasks.c.name).limit(_NEWEST).subquery()
    found = rows(select(newest.c.id).where(*_begins(newest.c.name, prefix)))
    if len(found) == limit or _count(connection, select(newest)) < _NEWEST:
        return found
    if not _more_begin(connection, filters, _SOME):
        return rows(all_of_name)
    return rows(newest_first.where(*_begins(tasks.c.name.concat(""), prefix)))


def _begins(name: ColumnElement[Any], prefix: str) -> Iterator[ColumnElement[bool]]:
    if prefix:
        yield name >= prefix
        if beyond := _after_all_with(prefix):
            yield name < beyond


def _more_begin(connection: Connection, filters: Filters, number: int) -> bool:
    """Whether more names than so many have the prefix, on any page."""
    some = select(tasks.c.id).where(
        tasks.c.owner == filters.owner, *_begins(tasks.c.name, filters.name_prefix)
    )
    return _count(connection, some.limit(number + 1)) > number


def _count(connection: Connection, rows: Select[Any]) -> int:
    count = select(func.count()).select_from(rows.subquery())
    return connection.execute(count).scalar_one()


def _after_all_with(prefix: str) -> str | None:
    """The least text greater than all that begin with `prefix`; None if there is none."""
    for end in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[end]) + 1
        if code == 0xD800:  # the surrogates are no characters
            code = 0xE000
        if code <= 0x10FFFF:
            return prefix[:end] + chr(code)
    return None


def _fitting(ids: Sequence[str], sizes: Iterable[Row]) -> int:
    """How many of the tasks a page can have."""
    size_of: defaultdict[str, int] = defaultdict(int)
    for task_id, size in sizes:
        size_of[task_id] += size
    total = 0
    for number, task_id in enumerate(ids):
        total += size_of[task_id]
        if total > _PAGE_BYTES:
            return max(number, 1)
    return len(ids)


# --- their documents ------------------------------------------------------------------


def _documents(fetch: Fetch, rows: Iterable[Row], view: View) -> list[bytes]:
    """The JSON of the tasks in `rows`, in their order."""
    if view is View.MINIMAL:
        return [_minimal(task_id, state) for task_id, state, _ in rows]
    full = view is View.FULL
    submitted = {
        task_id: _intact(_with_contents, document, contents) or _NO_DOCUMENT
        for task_id, document, contents in fetch("documents_full" if full else "documents")
    }
    logs = _logs(fetch, full)
    return [
        b'{"id":"%b","state":"%b","creation_time":"%b",%b,"logs":[%b]}'
        % (
            task_id.encode(),
            state.encode(),
            created.encode(),
            submitted.get(task_id, _NO_DOCUMENT)[1:-1],
            b",".join(logs[task_id]),
        )
        for task_id, state, created in rows
    ]


def _intact(whole: Callable[[bytes, Any], bytes], part: bytes, rest: Any) -> bytes | None:
    """What `whole` makes of a stored part and of what only FULL shows of it; None if it is
    damaged, as a disk that fails leaves it: zeros, or noise.

    To parse what is only passed on would take as long as to read it.
    """
    try:
        made = whole(part, rest) if rest else part
        made.decode()
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return None if b"\0" in made else made  # which stands in no JSON


def _minimal(task_id: str, state: str) -> bytes:
    # Neither has a character that JSON would escape.
    return b'{"id":"%b","state":"%b"}' % (task_id.encode(), state.encode())


def _with_contents(document: bytes, contents: bytes) -> bytes:
    task = orjson.loads(document)
    for index, content in orjson.loads(contents).items():
        task["inputs"][int(index)]["content"] = content
    return orjson.dumps(task)


def _logs(fetch: Fetch, full: bool) -> dict[str, list[bytes]]:
    found: defaultdict[str, list[bytes]] = defaultdict(list)
    extras = _full_only(fetch) if full else {}
    for task_id, number, log in fetch("attempts"):
        extra = extras.get((task_id, number))
        found[task_id].append(_intact(_with_extras, log, extra) or _NO_LOG)
    return found


class _Extras:
    """What FULL alone shows of one attempt."""

    def __init__(self) -> None:
        self.tails: dict[int, tuple[str, str]] = {}
        self.lines: list[str] = []


def _full_only(fetch: Fetch) -> dict[tuple[str, int], _Extras]:
    extras: defaultdict[tuple[str, int], _Extras] = defaultdict(_Extras)
    for task_id, attempt, executor, stdout, stderr in _written(fetch, "tails"):
        extras[task_id, attempt].tails[executor] = (stdout, stderr)
    for task_id, attempt, line in _written(fetch, "lines"):
        extras[task_id, attempt].lines.append(line)
    return extras


def _written(fetch: Fetch, part: str) -> list[Row]:
    """Rows with what programs have written, and where a disk has left noise of it, what can be
    read of that."""
    try:
        return list(fetch(part))
    except (sqlite3.OperationalError, OperationalError) as error:
        if "Could not decode to UTF-8" not in str(error):
            raise
        # Only now, since to decode each text here takes longer than the driver does.
        return [
            [value.decode(errors="replace") if isinstance(value, bytes) else value for value in row]
            for row in fetch(f"{part}_noisy")
        ]


def _with_extras(log: bytes, extra: _Extras) -> bytes:
    record = orjson.loads(log)
    for index, executor in enumerate(record["logs"]):
        if (tail := extra.tails.get(index)) is not None:
            executor["stdout"], executor["stderr"] = tail
    if extra.lines:
        record["system_logs"] = extra.lines
    return orjson.dumps(record)


# --- the statements -------------------------------------------------------------------

_ROW = select(tasks.c.id, tasks.c.state, tasks.c.created)

Of = Callable[[ColumnElement[str]], ColumnElement[bool]]
"""Whether a column has the id of a task at hand."""

# What makes rows of a JSON array.
_ELEMENTS = {"sqlite": "json_each", "postgresql": "json_array_elements_text"}


def _equals(task: BindParameter[str]) -> Of:
    return lambda column: column == task


def _in(ids: BindParameter[Any], dialect: Dialect) -> Of:
    """In one parameter: to write out one for each of two thousand takes longer than to read."""
    elements = getattr(func, _ELEMENTS[dialect.name])(ids).table_valued("value")
    return lambda column: column.in_(select(elements.c.value))


def _tails(of: Of) -> Select[Any]:
    return select(tails).where(of(tails.c.task_id))


def _lines(of: Of) -> Select[Any]:
    return (
        select(system_logs.c.task_id, system_logs.c.attempt, system_logs.c.line)
        .where(of(system_logs.c.task_id))
        .order_by(system_logs.c.task_id, system_logs.c.attempt, system_logs.c.n)
    )


def _as_bytes(statement: Select[Any]) -> Select[Any]:
    """The same with bytes in place of text."""
    columns = statement.selected_columns
    return statement.with_only_columns(
        *(c if isinstance(c.type, Integer) else cast(c, LargeBinary) for c in columns)
    )


def _sizes(of: Of, *columns: ColumnElement[Any]) -> Select[Any]:
    """Bytes, or characters, of each of several columns of one table together."""
    task_id = columns[0].table.c.task_id
    sizes = (func.coalesce(func.length(column), 0) for column in columns)
    return select(task_id, reduce(add, sizes)).where(of(task_id))


_PARTS: dict[str, Callable[[Of], Select[Any] | CompoundSelect[Any]]] = {
    "task": lambda of: _ROW.where(of(tasks.c.id)),
    "documents": lambda of: select(documents.c.task_id, documents.c.document, null()).where(
        of(documents.c.task_id)
    ),
    "documents_full": lambda of: select(
        documents.c.task_id, documents.c.document, documents.c.contents
    ).where(of(documents.c.task_id)),
    "attempts": lambda of: (
        select(attempts.c.task_id, attempts.c.number, attempts.c.log)
        .where(of(attempts.c.task_id))
        .order_by(attempts.c.task_id, attempts.c.number)
    ),
    "tails": _tails,
    "tails_noisy": lambda of: _as_bytes(_tails(of)),
    "lines": _lines,
    "lines_noisy": lambda of: _as_bytes(_lines(of)),
    # Of what is large only: the other columns come to a hundred bytes.
    "sizes": lambda of: union_all(_sizes(of, documents.c.document), _sizes(of, attempts.c.log)),
    "sizes_full": lambda of: union_all(
        _sizes(of, documents.c.document, documents.c.contents),
        _sizes(of, attempts.c.log),
        _sizes(of, tails.c.stdout, tails.c.stderr),
        _sizes(of, system_logs.c.line),
    ),
}
"""What a document is made of, and how large that is; for one task, or for those of a page."""
