"""The database connection: how it is opened, and the one thread that writes.

SQLite in WAL mode: readers see what was committed, never wait for the writer and never
make it wait. A change is on disk (fsync) before its future resolves.
"""

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select, update
from sqlalchemy.exc import DatabaseError, OperationalError

from raytes.errors import RaytesError
from raytes.store import schema

T = TypeVar("T")
Change = Callable[[Connection], T]

logger = logging.getLogger(__name__)

# The most changes in one transaction: more would only keep the first of them waiting.
_BATCH = 512
_BUSY_TIMEOUT_S = 30


class DatabaseUnavailable(RaytesError):
    """The database can't be read or written now (disk full, file gone): try again later."""

    failure_reason = "database_unavailable"


class WrongSchema(RaytesError):
    """The database was written by a release of raytes that this one doesn't know."""

    failure_reason = "wrong_schema"


def open_for_writing(path: Path) -> Engine:
    """The engine of the one writer; makes the tables where there are none, and brings those
    of an earlier release to this one's schema, wholly or not at all.

    Raises:
        WrongSchema: a later release has written this database.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    pragmas = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL")
    engine = _engine(path, "BEGIN IMMEDIATE", pragmas)
    with engine.begin() as connection:
        _require_schema(connection, path)
    return engine


def open_beside(path: Path) -> Engine:
    """The engine of a process that writes beside the store, for a moment. It changes no schema.

    Raises:
        WrongSchema: the database isn't there, or another release has written it.
    """
    engine = _engine(path, "BEGIN IMMEDIATE", ("PRAGMA synchronous=FULL",))
    found = recall(path).get("schema")
    if found is None:
        raise WrongSchema(f"there is no database of raytes at {path}")
    if int(found) != schema.VERSION:
        raise WrongSchema(
            f"{path} is the database of another release of raytes (its schema is {found}, this "
            f"release's is {schema.VERSION}): use the `raytes` that serves it"
        )
    return engine


def prepare(path: Path) -> None:
    """Make the database if there is none, and find out whether this release can use it.

    Raises:
        WrongSchema: it can't.
    """
    try:
        open_for_writing(path).dispose()
    except DatabaseError as error:
        raise WrongSchema(f"{path} can't be used as the database: {error.orig}") from None


def open_for_reading(path: Path) -> Engine:
    """An engine that can't change anything, for as many readers as there are."""
    return _engine(path, "BEGIN", ("PRAGMA query_only=1",))


def recall(path: Path) -> dict[str, str]:
    """The facts about the service in a database; none if there is no database yet."""
    if not path.exists():
        return {}
    engine = open_for_reading(path)
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table(schema.service.name):
                return {}
            return {row.key: row.value for row in connection.execute(select(schema.service))}
    finally:
        engine.dispose()


def _engine(path: Path, begin_with: str, pragmas: tuple[str, ...]) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        # Transactions are begun by hand below: the driver's own would begin too late.
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin_with)

    return engine


def _require_schema(connection: Connection, path: Path) -> None:
    if not inspect(connection).has_table(schema.service.name):
        schema.metadata.create_all(connection)
        connection.execute(insert(schema.service).values(key="schema", value=str(schema.VERSION)))
        return
    is_schema = schema.service.c.key == "schema"
    found = int(connection.execute(select(schema.service.c.value).where(is_schema)).scalar_one())
    if found > schema.VERSION:
        raise WrongSchema(
            f"{path} was written by a later release of raytes (its schema is {found}, this "
            f"release knows {schema.VERSION}): install that release or a newer one"
        )
    if found < schema.VERSION:
        from raytes.store.upgrade import upgrade  # brings Alembic, which takes its time

        upgrade(connection, found, schema.VERSION)
        connection.execute(
            update(schema.service).where(is_schema).values(value=str(schema.VERSION))
        )
        logger.info("%s: the schema was %d and is now %d", path, found, schema.VERSION)


class Writer:
    """The one thread that writes. Changes in flight share a transaction and its fsync."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[tuple[Change[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def submit(self, change: Change[T]) -> Future[T]:
        """Run `change` in a transaction; the future resolves when that is on disk.

        A change must bear being run again: when another of its batch fails, the rest is
        rolled back with it and run once more without it.

        Raises (through the future):
            DatabaseUnavailable: the database can't be written now.
        """
        future: Future[T] = Future()
        self._queue.put((change, future))
        return future

    def close(self) -> None:
        """Write what was submitted, then end the thread and the connections."""
        self._queue.put(None)
        self._thread.join()
        self._engine.dispose()

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            batch = []
            while item is not None:
                batch.append(item)
                if len(batch) == _BATCH:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            self._write(batch)
            if item is None:
                return

    def _write(self, batch: list[tuple[Change[Any], Future[Any]]]) -> None:
        try:
            results = self._transaction([change for change, _ in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, DatabaseUnavailable):
                for item in batch:
                    self._write([item])
                return
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)

    def _transaction(self, changes: list[Change[T]]) -> list[T]:
        try:
            with self._engine.begin() as connection:
                return [change(connection) for change in changes]
        except OperationalError as error:
            logger.exception("the database could not be written")
            raise DatabaseUnavailable(f"the database can't be written: {error.orig}") from error
