import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from raytes.config import Settings
from raytes.store.checkpoints import carry_over
from raytes.store.database import database_of, prepare
from raytes.store.writer import Writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Settings(state_dir=tmp_path / "is it 100%? #1").database_file


@pytest.fixture
def writer(path: Path) -> Iterator[Writer]:
    database = database_of(Settings(state_dir=path.parent))
    prepare(database)
    writer = Writer(database, database.writing())
    yield writer
    writer.close()


def write(writer: Writer, pages: int) -> None:
    statement = text("INSERT INTO service VALUES (hex(randomblob(8)), hex(randomblob(:bytes)))")
    writer.submit(lambda c: c.execute(statement, {"bytes": 2048 * pages})).result()


def rows_without_the_log(path: Path) -> int:
    alone = path.with_name("alone")
    alone.write_bytes(path.read_bytes())
    rows: int = sqlite3.connect(alone).execute("SELECT count(*) FROM service").fetchone()[0]
    return rows


def test_what_was_written_is_carried_over_beside_the_writer(path: Path, writer: Writer) -> None:
    carry_over(path)
    before = rows_without_the_log(path)
    write(writer, pages=2_000)  # SQLite itself would carry over a thousand
    assert rows_without_the_log(path) == before
    carry_over(path)
    assert rows_without_the_log(path) == before + 1


def test_a_database_that_is_gone_is_no_end_of_it(path: Path) -> None:
    with pytest.raises(sqlite3.Error):
        carry_over(path)


def test_after_a_stop_the_file_alone_has_everything(path: Path, writer: Writer) -> None:
    reader = sqlite3.connect(path)  # as a replica that is ended later
    before = reader.execute("SELECT count(*) FROM service").fetchone()[0]
    write(writer, pages=1)
    writer.close()
    assert rows_without_the_log(path) == before + 1
    assert path.with_name(f"{path.name}-wal").stat().st_size == 0
    reader.close()
