"""INSERT with ON CONFLICT: both databases have the same, and SQLAlchemy one for each."""

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Insert, Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

if TYPE_CHECKING:
    from sqlalchemy.dialects.sqlite import Insert as Upsert


class InsertNew(Insert):
    """An INSERT that leaves rows alone which are there already."""

    inherit_cache = True


@compiles(InsertNew)
def _compile(statement: InsertNew, compiler: SQLCompiler, **options: Any) -> str:
    text: str = compiler.visit_insert(statement, **options)  # type: ignore[no-untyped-call]
    return f"{text} ON CONFLICT DO NOTHING"


def upsert(connection: Connection, table: Table) -> "Upsert":
    """An INSERT into a table that can be told what to do `on_conflict`."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert

        return insert(table)  # type: ignore[return-value]
    from sqlalchemy.dialects.sqlite import insert as sqlite_insert

    return sqlite_insert(table)
