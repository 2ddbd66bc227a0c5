"""SQLite, in WAL mode: readers see what was committed, never wait for the writer and never make
it wait. A transaction is on disk (fsync) when it is committed.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from raytes.store.checkpoints import Checkpoints
from raytes.store.database import Database

_BUSY_TIMEOUT_S = 30


class SQLite(Database):
    """A file on this machine."""

    local = True

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._local = threading.local()

    def exists(self) -> bool:
        return self._path.exists()

    def writing(self) -> Engine:
        # SQLite's own lock lets one transaction write at a time.
        engine = self._writing("PRAGMA wal_autocheckpoint=0")
        checkpoints = Checkpoints(self._path)
        event.listen(engine, "engine_disposed", lambda _: checkpoints.stop())
        return engine

    def beside(self) -> Engine:
        return self._writing()

    def _writing(self, *pragmas: str) -> Engine:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # SQLite says it better, and again later
            # For nobody else: tasks hold secrets. The files beside it get the same mode.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._path.chmod(0o600)
        durable = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL")
        return self._engine("BEGIN IMMEDIATE", (*durable, *pragmas))

    def reading(self) -> Engine:
        return self._engine("BEGIN", ("PRAGMA query_only=1",))

    @contextmanager
    def snapshot(self, engine: Engine) -> Iterator[Any]:
        if (cursor := getattr(self._local, "cursor", None)) is None:
            self._local.connection = engine.raw_connection()
            cursor = self._local.cursor = self._local.connection.cursor()
        cursor.execute("BEGIN")
        try:
            yield cursor
        finally:
            cursor.execute("ROLLBACK")

    def passing(self, error: Exception) -> str | None:
        if isinstance(error, OperationalError):
            return str(error.orig)
        return str(error) if isinstance(error, sqlite3.OperationalError | PoolExhausted) else None

    def _engine(self, begin_with: str, pragmas: tuple[str, ...]) -> Engine:
        engine = create_engine(
            URL.create("sqlite", database=str(self._path)),
            connect_args={"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False},
            paramstyle="named",
            hide_parameters=True,
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
