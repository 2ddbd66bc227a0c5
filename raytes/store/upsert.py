"""INSERT with ON CONFLICT: both databases have the same, and SQLAlchemy one for each."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Insert, Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler


class InsertNew(Insert):
    """An INSERT that leaves rows alone which are there already."""

    inherit_cache = True


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Execute an `InsertNew` of rows of the same columns, whose values the driver takes as they
    are; how many were not there.

    SQLAlchemy would go through the statement and its types each time, and make a result of it,
    which takes longer than the database does; and clients wait for creates.
    """
    cursor = connection.connection.cursor()
    cursor.executemany(_insert_new_as_text(table, connection.dialect, tuple(rows[0])), rows)
    return cursor.rowcount


@lru_cache
def _insert_new_as_text(table: Table, dialect: Dialect, columns: tuple[str, ...]) -> str:
    return str(InsertNew(table).compile(dialect=dialect, column_keys=columns))


class Put(Insert):
    """An INSERT that takes the place of rows which are there already."""

    inherit_cache = True


@compiles(InsertNew)
def _insert_new(statement: InsertNew, compiler: SQLCompiler, **options: Any) -> str:
    return f"{_insert(statement, compiler, options)} ON CONFLICT DO NOTHING"


@compiles(Put)
def _put(statement: Put, compiler: SQLCompiler, **options: Any) -> str:
    quoted = compiler.preparer.quote
    key = [quoted(column.name) for column in statement.table.columns if column.primary_key]
    values = [quoted(column.name) for column in statement.table.columns if not column.primary_key]
    return (
        f"{_insert(statement, compiler, options)} ON CONFLICT ({', '.join(key)}) "
        f"DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in values)}"
    )


def _insert(statement: Insert, compiler: SQLCompiler, options: dict[str, Any]) -> str:
    text: str = compiler.visit_insert(statement, **options)  # type: ignore[no-untyped-call]
    return text
