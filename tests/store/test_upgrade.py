"""Databases of earlier releases: brought to this one's schema, or left as they were."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, select, update

from raytes.store import changes, schema, upgrade
from raytes.store.database import Database as Place
from raytes.store.database import DatabaseUnavailable, WrongSchema, prepare
from raytes.store.pages import Filters
from raytes.store.sqlite import SQLite
from raytes.views import View
from tests.store.conftest import Database, minimal_task

# Made by the release whose schema was 1: a task that is queued, one that is with a runner,
# one that has ended and one that was cancelled in the queue.
VERSION_1 = Path(__file__).parent / "data" / "version_1.sql"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "raytes.db"
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1.read_text())
    connection.close()
    return path


def content(place: Place) -> dict[str, tuple[list[str], list[str]]]:
    """Each table's columns and rows."""
    engine = place.reading()
    found = MetaData()
    with engine.connect() as connection:
        found.reflect(connection)
        content = {
            table.name: (
                [f"{column.name} {column.type}" for column in table.columns],
                sorted(map(repr, connection.execute(select(table)))),
            )
            for table in found.tables.values()
        }
    engine.dispose()
    return content


def add_step(directory: Path, monkeypatch: pytest.MonkeyPatch, *operations: str) -> None:
    """Have a later release, whose schema is one such step further."""
    steps = directory / "steps"
    shutil.copytree(upgrade.MIGRATIONS, steps)
    (steps / "v99_further.py").write_text(
        "from alembic import op\n"
        "import sqlalchemy as sa\n"
        f"revision, down_revision = '99', '{schema.VERSION}'\n"
        "def upgrade():\n" + "".join(f"    {operation}\n" for operation in operations)
    )
    monkeypatch.setattr(upgrade, "MIGRATIONS", steps)
    monkeypatch.setattr(schema, "VERSION", 99)


@pytest.fixture
def present(place: Place) -> Place:
    """A database of this release, in SQLite or in PostgreSQL: there is none of the first release
    in that."""
    database = Database(place)
    database.create(minimal_task(name="waits", tags={"k": "v"}))
    database.cancelled()
    database.close()
    return place


def indexes(path: Path) -> dict[str, str]:
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql > ''"
    )
    found = dict(rows.fetchall())
    connection.close()
    return found


def test_an_upgraded_database_has_the_schema_of_a_new_one(old: Path, tmp_path: Path) -> None:
    prepare(SQLite(old))
    engine = SQLite(old).writing()
    with engine.begin() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, schema.metadata) == []
    engine.dispose()
    new = tmp_path / "new.db"
    prepare(SQLite(new))
    assert indexes(old) == indexes(new)  # conditions included, which Alembic doesn't compare


def test_the_steps_lead_to_the_version_of_the_schema() -> None:
    scripts = ScriptDirectory(str(upgrade.MIGRATIONS), version_locations=[str(upgrade.MIGRATIONS)])
    assert scripts.get_heads() == [str(schema.VERSION)]


def test_the_tasks_of_an_earlier_release_are_there_after_the_upgrade(old: Path) -> None:
    database = Database(old)
    page = orjson.loads(database.reader.page(Filters(), 9, None, View.FULL))
    found = {task["name"]: task for task in page["tasks"]}
    ended = dict(
        database.change(lambda c: c.exec_driver_sql("SELECT name, ended FROM tasks").all())
    )
    assert {name: task["state"] for name, task in found.items()} == {
        "queued": "QUEUED",
        "running": "INITIALIZING",
        "complete": "COMPLETE",
        "cancelled": "CANCELED",
    }
    assert found["complete"]["inputs"][0]["content"] == "text"
    assert found["complete"]["logs"][0]["logs"][0]["stdout"] == "out"
    assert ended == {
        "queued": None,
        "running": None,
        "complete": "2026-01-01T00:00:00.000Z",
        "cancelled": found["cancelled"]["creation_time"],
    }
    queued, running = found["queued"]["id"], found["running"]["id"]
    pool = changes.Pool("", "a shape")
    oldest = database.change(lambda c: changes.oldest(c, pool, "", 9))
    assert [task.id for task in oldest] == [queued]
    assert [task.id for task in database.change(changes.with_runner)] == [running]
    database.close()


FAILING = ("op.drop_table('tags')", "op.execute('SELECT a_mistake')")


def test_an_upgrade_that_fails_leaves_the_oldest_database_as_it_was(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_step(tmp_path, monkeypatch, *FAILING)
    before = content(SQLite(old))
    with pytest.raises(DatabaseUnavailable, match="a_mistake"):
        prepare(SQLite(old))
    assert content(SQLite(old)) == before


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(
    present: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_step(tmp_path, monkeypatch, *FAILING)
    before = content(present)
    with pytest.raises(DatabaseUnavailable, match="a_mistake"):
        prepare(present)
    assert content(present) == before


def test_a_later_release_upgrades_the_database_of_this_one(
    present: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, version = content(present), schema.VERSION
    add_step(
        tmp_path,
        monkeypatch,
        "op.add_column('tasks', sa.Column('colour', sa.Text))",
        "op.execute(\"UPDATE tasks SET colour = 'of ' || state\")",
    )
    prepare(present)
    after = content(present)
    columns, rows = after.pop("tasks")
    assert columns == [*before.pop("tasks")[0], "colour TEXT"]
    added = {row.rpartition(", ")[2] for row in rows}
    assert added == {"'of CANCELED')", "'of QUEUED')"}
    was, is_now = before.pop("service"), after.pop("service")
    assert [row.replace(f"'{version}'", "'99'") for row in was[1]] == is_now[1]
    assert after == before


def test_a_database_of_a_later_release_is_refused_and_not_touched(present: Place) -> None:
    engine = present.beside()
    with engine.begin() as connection:
        connection.execute(
            update(schema.service).where(schema.service.c.key == "schema").values(value="99")
        )
    engine.dispose()
    before = content(present)
    with pytest.raises(WrongSchema, match="later release"):
        prepare(present)
    assert content(present) == before


def test_a_database_that_is_up_to_date_costs_no_import_of_alembic(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys\n"
        "from raytes.store.database import prepare\n"
        "from raytes.store.sqlite import SQLite\n"
        "for _ in range(2): prepare(SQLite(pathlib.Path(sys.argv[1])))\n"
        "sys.exit('alembic' in sys.modules)\n"
    )
    path = str(tmp_path / "raytes.db")
    assert subprocess.run([sys.executable, "-c", script, path], check=False).returncode == 0
