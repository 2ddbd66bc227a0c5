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

from raytes.store import changes, schema, upgrade
from raytes.store.database import DatabaseUnavailable, WrongSchema, prepare
from raytes.store.pages import Filters
from raytes.store.sqlite import SQLite
from raytes.views import View
from tests.store.conftest import Database

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


def content(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    lines = list(connection.iterdump())
    connection.close()
    return lines


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


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = tmp_path / "steps"
    shutil.copytree(upgrade.MIGRATIONS, steps)
    (steps / "v99_fails.py").write_text(
        "from alembic import op\n"
        f"revision, down_revision = '99', '{schema.VERSION}'\n"
        "def upgrade():\n"
        "    op.drop_table('tags')\n"
        "    op.execute('SELECT a mistake')\n"
    )
    monkeypatch.setattr(upgrade, "MIGRATIONS", steps)
    monkeypatch.setattr(schema, "VERSION", 99)
    before = content(old)
    with pytest.raises(DatabaseUnavailable, match="no such column"):
        prepare(SQLite(old))
    assert content(old) == before


def test_a_database_of_a_later_release_is_refused_and_not_touched(old: Path) -> None:
    connection = sqlite3.connect(old)
    connection.execute("UPDATE service SET value = '99' WHERE key = 'schema'")
    connection.commit()
    connection.close()
    before = content(old)
    with pytest.raises(WrongSchema, match="later release"):
        prepare(SQLite(old))
    assert content(old) == before


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
