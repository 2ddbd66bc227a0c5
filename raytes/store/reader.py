"""What the API reads: tasks in each view and pages of them, as JSON, straight from the tables.

Readers never change anything and never wait for the writer. Every answer is made from one
snapshot, so that a task's state and its logs agree.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import BindParameter, Connection, Select, bindparam, select

from raytes.store.database import open_for_reading
from raytes.store.pages import Filters, issue, redeem
from raytes.store.schema import attempts, documents, service, system_logs, tags, tails, tasks
from raytes.views import View


class Reader:
    """Reads one service's database. Safe to use from several threads."""

    def __init__(self, database: Path) -> None:
        self._engine = open_for_reading(database)
        self._secret = b""

    def facts(self) -> dict[str, str]:
        """What the store remembers of the service: instance, created, updated …"""
        with self._engine.connect() as connection:
            return {row.key: row.value for row in connection.execute(select(service))}

    def get(self, task_id: str, view: View) -> bytes | None:
        """The task as JSON, or None if there is none of that id."""
        with self._engine.connect() as connection:
            row = connection.execute(_ONE, {"task": task_id}).one_or_none()
            return None if row is None else _documents(connection, [row], view)[0]

    def page(self, filters: Filters, size: int, token: str | None, view: View) -> bytes:
        """A ListTasksResponse as JSON: the newest first, at most `size` tasks.

        Raises:
            InvalidPageToken: `token` isn't one that was issued for these filters.
        """
        before = redeem(token, filters, self._page_secret()) if token else None
        with self._engine.connect() as connection:
            rows = connection.execute(_matching(filters, before).limit(size + 1)).all()
            shown = rows[:size]
            answer = b'{"tasks":[' + b",".join(_documents(connection, shown, view)) + b"]"
        if len(rows) > size:
            next_token = issue(shown[-1].id, filters, self._page_secret())
            answer += b',"next_page_token":' + orjson.dumps(next_token)
        return answer + b"}"

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _page_secret(self) -> bytes:
        if not self._secret:
            self._secret = self.facts()["page_secret"].encode()
        return self._secret


_ROW = select(tasks.c.id, tasks.c.state, tasks.c.created)
_ONE = _ROW.where(tasks.c.id == bindparam("task"))


def _matching(filters: Filters, before: str | None) -> Select[Any]:
    statement = _ROW.where(tasks.c.owner == filters.owner)
    newest_first = tasks.c.id
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
    if filters.name_prefix:
        statement = statement.where(tasks.c.name >= filters.name_prefix)
        if beyond := _after_all_with(filters.name_prefix):
            statement = statement.where(tasks.c.name < beyond)
    if before is not None:
        statement = statement.where(newest_first < before)
    return statement.order_by(newest_first.desc())


def _after_all_with(prefix: str) -> str | None:
    """The least text greater than all that begin with `prefix`; None if there is none."""
    for end in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[end]) + 1
        if code == 0xD800:  # the surrogates are no characters
            code = 0xE000
        if code <= 0x10FFFF:
            return prefix[:end] + chr(code)
    return None


def _documents(connection: Connection, rows: Sequence[Any], view: View) -> list[bytes]:
    if view is View.MINIMAL:
        return [orjson.dumps({"id": row.id, "state": row.state}) for row in rows]
    ids = [row.id for row in rows]
    full = view is View.FULL
    submitted = {row.task_id: row for row in connection.execute(_DOCUMENTS[full], {"ids": ids})}
    logs = _logs(connection, ids, full)
    return [_assemble(row, submitted[row.id], logs[row.id], full) for row in rows]


def _assemble(row: Any, submitted: Any, logs: Iterable[bytes], full: bool) -> bytes:
    document = submitted.document
    if full and submitted.contents is not None:
        document = _with_contents(document, submitted.contents)
    head = orjson.dumps({"id": row.id, "state": row.state, "creation_time": row.created})
    return b'%b,%b,"logs":[%b]}' % (head[:-1], document[1:-1], b",".join(logs))


def _with_contents(document: bytes, contents: bytes) -> bytes:
    task = orjson.loads(document)
    for index, content in orjson.loads(contents).items():
        task["inputs"][int(index)]["content"] = content
    return orjson.dumps(task)


def _logs(connection: Connection, ids: Sequence[str], full: bool) -> dict[str, list[bytes]]:
    found: defaultdict[str, list[bytes]] = defaultdict(list)
    extras = _full_only(connection, ids) if full else {}
    for row in connection.execute(_ATTEMPTS, {"ids": ids}):
        extra = extras.get((row.task_id, row.number))
        found[row.task_id].append(_with_extras(row.log, extra) if extra else row.log)
    return found


class _Extras:
    """What FULL alone shows of one attempt."""

    def __init__(self) -> None:
        self.tails: dict[int, Any] = {}
        self.lines: list[str] = []


def _full_only(connection: Connection, ids: Sequence[str]) -> dict[tuple[str, int], _Extras]:
    extras: defaultdict[tuple[str, int], _Extras] = defaultdict(_Extras)
    for row in connection.execute(_TAILS, {"ids": ids}):
        extras[row.task_id, row.attempt].tails[row.executor] = row
    for row in connection.execute(_LINES, {"ids": ids}):
        extras[row.task_id, row.attempt].lines.append(row.line)
    return extras


def _with_extras(log: bytes, extra: _Extras) -> bytes:
    record = orjson.loads(log)
    for index, executor in enumerate(record["logs"]):
        if (tail := extra.tails.get(index)) is not None:
            executor["stdout"], executor["stderr"] = tail.stdout, tail.stderr
    if extra.lines:
        record["system_logs"] = extra.lines
    return orjson.dumps(record)


_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_DOCUMENTS = {
    True: select(documents.c.task_id, documents.c.document, documents.c.contents).where(
        documents.c.task_id.in_(_IDS)
    ),
    False: select(documents.c.task_id, documents.c.document).where(documents.c.task_id.in_(_IDS)),
}
_ATTEMPTS = (
    select(attempts.c.task_id, attempts.c.number, attempts.c.log)
    .where(attempts.c.task_id.in_(_IDS))
    .order_by(attempts.c.task_id, attempts.c.number)
)
_TAILS = select(tails).where(tails.c.task_id.in_(_IDS))
_LINES = (
    select(system_logs)
    .where(system_logs.c.task_id.in_(_IDS))
    .order_by(system_logs.c.task_id, system_logs.c.attempt, system_logs.c.n)
)
