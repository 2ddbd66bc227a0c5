"""PostgreSQL, for a service whose head node can be replaced by a fresh one.

Over the network a connection can be lost while its other end doesn't know. So the one writer
holds an advisory lock of the server's for as long as its connection lives: whoever can write
has the lock, and a store that was cut off can't come back beside its successor. The server
drops a connection that is silent for half a minute, and the lock with it.
"""

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from raytes.store.database import Database, DatabaseUnavailable

# Of each side, for the death of the other one.
_KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
_UNACKNOWLEDGED_MS = 30_000
_CONNECT_WITHIN_S = 10
_READ_WITHIN_MS = 30_000
_READERS = 40

_WATCH_THE_CLIENT = (
    "".join(f"SET tcp_{name} = {value};" for name, value in _KEEPALIVES.items())
    + f"SET tcp_user_timeout = {_UNACKNOWLEDGED_MS};"
)
# One writer for each schema of the database. The number is ours alone, as far as we know.
_LOCK = "SELECT pg_try_advisory_lock(1380014197, hashtext(current_schema()))"
_LAST_WRITER = "SELECT value FROM service WHERE key = 'writer'"
_BE_LAST_WRITER = """
    INSERT INTO service (key, value) VALUES ('writer', %s)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""
_LOCK_TO_PREPARE = "SELECT pg_advisory_lock(1380014198, hashtext(current_schema()))"
_READ_ONLY = (
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
    f"SET statement_timeout = {_READ_WITHIN_MS}"
)


logger = logging.getLogger(__name__)


class PostgreSQL(Database):
    """A database of a server, and in it the first schema of the search path.

    Parameters:
        url: `postgresql://user:password@host:port/database`; what it leaves out comes from
            libpq's variables of the environment and files (PGPASSWORD, ~/.pgpass, PGHOST …).
    """

    local = False

    def __init__(self, url: str) -> None:
        self._url = make_url(url).set(drivername="postgresql+psycopg")
        self.name = self._url.set(drivername="postgresql").render_as_string(hide_password=True)

    def exists(self) -> bool:
        return True

    def writing(self) -> Engine:
        engine = self._engine(pool_size=1, max_overflow=0)
        token = secrets.token_hex(8)
        began = False

        @event.listens_for(engine, "connect")
        def be_alone(connection: psycopg.Connection[Any], _record: object) -> None:
            nonlocal began
            connection.execute(_WATCH_THE_CLIENT)
            if connection.execute(_LOCK).fetchone() != (True,):
                connection.close()
                raise DatabaseUnavailable(
                    f"another store writes to {self.name}: stop the `raytes serve` that it is "
                    "of, or choose another database with --database"
                )
            if began and connection.execute(_LAST_WRITER).fetchone() != (token,):
                # What this process knows of its tasks is old: it begins again with what is there.
                logger.critical("another store wrote while this one was cut off")
                os._exit(1)
            connection.execute(_BE_LAST_WRITER, (token,))
            connection.commit()
            began = True

        return engine

    def beside(self) -> Engine:
        engine = self._engine(pool_size=1, max_overflow=0)

        @event.listens_for(engine, "connect")
        def take_turns(connection: psycopg.Connection[Any], _record: object) -> None:
            connection.execute(_LOCK_TO_PREPARE)
            connection.commit()

        return engine

    def reading(self) -> Engine:
        engine = self._engine(pool_size=5, max_overflow=_READERS - 5)

        @event.listens_for(engine, "connect")
        def only_read(connection: psycopg.Connection[Any], _record: object) -> None:
            connection.execute(_READ_ONLY)
            connection.commit()

        return engine

    @contextmanager
    def snapshot(self, engine: Engine) -> Iterator[Any]:
        connection = engine.raw_connection()
        try:
            yield connection.cursor()
        finally:
            connection.close()  # into the pool, rolled back

    def passing(self, error: Exception) -> str | None:
        cause = error.orig if isinstance(error, DBAPIError) else error
        # The last is what a server says that has become a standby: it only reads.
        if isinstance(
            cause, psycopg.OperationalError | psycopg.InterfaceError | psycopg.InternalError
        ):
            return str(cause).strip()
        return str(error) if isinstance(error, PoolExhausted) else None

    def _engine(self, **pool: int) -> Engine:
        return create_engine(
            self._url,
            # One that the server has dropped meanwhile is noticed before it is used.
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={
                "connect_timeout": _CONNECT_WITHIN_S,
                "application_name": "raytes",
                "tcp_user_timeout": _UNACKNOWLEDGED_MS,
                **_KEEPALIVES,
            },
            **pool,
        )
