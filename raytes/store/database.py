"""The database behind the store: which one it is, how it is opened, and its schema.

SQLite and PostgreSQL differ in how they are connected to, how a writer is kept alone, and
which of their errors pass; each has a class of its own for that. All else is the same SQL.
"""

import logging
import os
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Connection, Engine, insert, inspect, make_url, select, update
from sqlalchemy.exc import DatabaseError

from raytes.config import Settings
from raytes.errors import RaytesError
from raytes.store import schema

logger = logging.getLogger(__name__)


class DatabaseUnavailable(RaytesError):
    """The database can't be read or written now (disk full, not reached): try again later."""

    failure_reason = "database_unavailable"


class WrongSchema(RaytesError):
    """The database isn't one that this release of raytes can use."""

    failure_reason = "wrong_schema"


class Database(ABC):
    """Where a service's tasks are kept."""

    name: str
    """What it is called in messages; without its password."""

    local: bool
    """Whether a keyed read is so quick that an event loop may wait for it."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is anything to be read, made by raytes or not."""

    @abstractmethod
    def writing(self) -> Engine:
        """An engine for the one writer of a prepared database: while it has a connection, no
        other writer has.

        Its transactions are durable when they are committed.
        """

    @abstractmethod
    def beside(self) -> Engine:
        """An engine that writes beside the one writer: to make tables, or for a moment."""

    @abstractmethod
    def reading(self) -> Engine:
        """An engine that can't change anything. Each of its transactions sees one moment."""

    @abstractmethod
    def snapshot(self, engine: Engine) -> AbstractContextManager[Any]:
        """A cursor of the driver's own, at one moment of what a reading engine sees. To make
        a connection of SQLAlchemy would take longer than all that is read with it."""

    @abstractmethod
    def passing(self, error: Exception) -> str | None:
        """What the database says, if the error is one that passes; else None."""


def database_of(settings: Settings) -> Database:
    """The database of a service.

    Raises:
        WrongSchema: its driver isn't installed.
    """
    if settings.database is None:
        from raytes.store.sqlite import SQLite

        return SQLite(settings.database_file)
    try:
        from raytes.store.postgres import PostgreSQL
    except ImportError as error:
        raise WrongSchema(
            f"PostgreSQL needs a driver ({error.name} is missing): pip install 'raytes[postgres]'"
        ) from None
    return PostgreSQL(settings.database.get_secret_value())


def with_password(settings: Settings) -> Settings:
    """The settings with the database's password in them, if it is in PGPASSWORD: the store may
    be started where this process' environment isn't."""
    password = os.environ.get("PGPASSWORD")
    if settings.database is None or password is None:
        return settings
    url = make_url(settings.database.get_secret_value())
    if url.password is not None:
        return settings
    secret = SecretStr(url.set(password=password).render_as_string(hide_password=False))
    return settings.model_copy(update={"database": secret})


def prepare(database: Database) -> None:
    """Make the tables if there are none, and bring those of an earlier release to this one's
    schema, wholly or not at all.

    Raises:
        WrongSchema: a later release has written the database.
        DatabaseUnavailable: it can't be reached or used.
    """
    engine = database.beside()
    try:
        with engine.begin() as connection:
            _require_schema(connection, database)
    except DatabaseError as error:
        raise DatabaseUnavailable(
            f"{database.name} can't be used as the database: {error.orig}"
        ) from None
    finally:
        engine.dispose()


def require_prepared(database: Database) -> None:
    """Find out whether a database has this release's schema, and change nothing.

    Raises:
        WrongSchema: it isn't there, or has another.
        DatabaseUnavailable: it can't be reached or read.
    """
    found = recall(database).get("schema")
    if found is None:
        raise WrongSchema(f"there is no database of raytes at {database.name}")
    if int(found) != schema.VERSION:
        raise WrongSchema(
            f"{database.name} is the database of another release of raytes (its schema is "
            f"{found}, this release's is {schema.VERSION}): use the `raytes` that serves it"
        )


def recall(database: Database) -> dict[str, str]:
    """The facts about the service in a database; none if there is no database yet.

    Raises:
        DatabaseUnavailable: it can't be reached or read.
    """
    if not database.exists():
        return {}
    engine = database.reading()
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table(schema.service.name):
                return {}
            return {row.key: row.value for row in connection.execute(select(schema.service))}
    except DatabaseError as error:
        raise DatabaseUnavailable(f"{database.name} can't be read: {error.orig}") from None
    finally:
        engine.dispose()


def _require_schema(connection: Connection, database: Database) -> None:
    if not inspect(connection).has_table(schema.service.name):
        schema.metadata.create_all(connection)
        connection.execute(insert(schema.service).values(key="schema", value=str(schema.VERSION)))
        return
    is_schema = schema.service.c.key == "schema"
    found = int(connection.execute(select(schema.service.c.value).where(is_schema)).scalar_one())
    if found > schema.VERSION:
        raise WrongSchema(
            f"{database.name} was written by a later release of raytes (its schema is {found}, "
            f"this release knows {schema.VERSION}): install that release or a newer one"
        )
    if found < schema.VERSION:
        from raytes.store.upgrade import upgrade  # brings Alembic, which takes its time

        upgrade(connection, found, schema.VERSION)
        connection.execute(
            update(schema.service).where(is_schema).values(value=str(schema.VERSION))
        )
        logger.info("%s: the schema was %d and is now %d", database.name, found, schema.VERSION)
