from pathlib import Path

import pytest

from raytes.cli import main
from raytes.config import Settings
from raytes.store.postgres import PostgreSQL
from raytes.views import View
from tests.postgres import Server
from tests.store.conftest import Database


@pytest.fixture
def three_ended(tmp_path: Path) -> Database:
    """The open database of a service's state directory, `tmp_path`, with three ended tasks."""
    database = Database(Settings(state_dir=tmp_path).database_file)
    for _ in range(3):
        database.cancelled()
    return database


def run(tmp_path: Path, *arguments: str) -> int:
    """The exit code."""
    line = ["prune", "--state-dir", str(tmp_path), *arguments]
    return main(line, standalone_mode=False) or 0


def count(database: Database) -> int:
    return sum(
        database.reader.get(task, View.MINIMAL) is not None
        for task in database.change(lambda c: c.exec_driver_sql("SELECT id FROM tasks").scalars())
    )


def test_it_forgets_all_but_the_last_while_the_store_has_the_database_open(
    three_ended: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "--keep", "1", "--dry-run")
    assert capsys.readouterr().out == "2 ended tasks would be forgotten\n"
    assert count(three_ended) == 3
    run(tmp_path, "--keep", "1")
    assert capsys.readouterr().out == "2 ended tasks are forgotten\n"
    assert count(three_ended) == 1
    three_ended.create()
    three_ended.close()


def test_a_time_may_have_a_unit(
    three_ended: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "--older-than", "1d")
    assert capsys.readouterr().out == "0 ended tasks are forgotten\n"
    run(tmp_path, "--older-than", "0")
    assert capsys.readouterr().out == "3 ended tasks are forgotten\n"
    three_ended.close()


def test_it_must_be_told_what_to_forget(tmp_path: Path) -> None:
    assert run(tmp_path) == 2


def test_it_makes_no_database_where_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--keep", "0") == 1
    assert "there is no database of raytes at" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_it_works_on_postgresql_while_the_store_writes_to_it(
    postgres: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = postgres.fresh()
    database = Database(PostgreSQL(url))
    task = database.cancelled()
    monkeypatch.setenv("RAYTES_DATABASE", url)
    assert run(tmp_path, "--keep", "0") == 0
    assert capsys.readouterr().out == "1 ended tasks are forgotten\n"
    assert database.reader.get(task, View.MINIMAL) is None
    assert database.create()
    database.close()
