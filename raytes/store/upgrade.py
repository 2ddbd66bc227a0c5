"""Brings a database of an older release to the schema of this one, with Alembic's operations.

How far a database has come is the number `schema` in its table `service`, and nothing else:
every release can read it, and one that is up to date costs no import of Alembic. So Alembic's
own table of versions isn't used.
"""

from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(connection: Connection, found: int, wanted: int) -> None:
    """Take the steps from the version `found` to `wanted`, in the connection's transaction."""
    scripts = ScriptDirectory(str(MIGRATIONS), version_locations=[str(MIGRATIONS)])
    newest_first = list(scripts.iterate_revisions(str(wanted), str(found)))
    with Operations.context(MigrationContext.configure(connection)):
        for step in reversed(newest_first):
            step.module.upgrade()
