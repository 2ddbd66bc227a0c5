from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection

import raytes.store.database
from raytes import ids
from raytes.models import TesExecutor, TesTask
from raytes.moment import now
from raytes.store import changes
from raytes.store.database import prepare
from raytes.store.documents import NewTask, split_document
from raytes.store.postgres import PostgreSQL
from raytes.store.reader import Reader
from raytes.store.sqlite import SQLite
from raytes.store.writer import Writer

T = TypeVar("T")


class Database:
    """A database with its writer and a reader."""

    def __init__(self, place: raytes.store.database.Database | Path) -> None:
        """A path is that of a SQLite database."""
        database = SQLite(place) if isinstance(place, Path) else place
        prepare(database)
        self.writer = Writer(database, database.writing())
        self.change(lambda c: changes.remember(c, {"page_secret": "secret"}))
        self.reader = Reader(database)

    def change(self, change: Callable[[Connection], T]) -> T:
        return self.writer.submit(change).result()

    def create(
        self, task: TesTask | None = None, warnings: tuple[str, ...] = (), owner: str = ""
    ) -> str:
        new = replace(new_task(task or minimal_task(), warnings), owner=owner)
        self.change(lambda c: changes.create(c, [new]))
        return new.id

    def cancelled(self) -> str:
        """A task that has ended."""
        task = self.create()
        self.change(lambda c: changes.cancel(c, task))
        return task

    def close(self) -> None:
        self.reader.close()
        self.writer.close()


def minimal_task(**fields: object) -> TesTask:
    return TesTask(executors=[TesExecutor(image="busybox", command=["true"])], **fields)


def new_task(task: TesTask, warnings: tuple[str, ...] = ()) -> NewTask:
    document, contents = split_document(task)
    return NewTask(
        id=ids.mint(),
        owner="",
        name=task.name,
        created=now(),
        shape="a shape",
        document=document,
        contents=contents,
        tags=task.tags or {},
        warnings=warnings,
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> raytes.store.database.Database:
    """Where a database is to be; nothing is there yet."""
    if request.param == "sqlite":
        return SQLite(tmp_path / "raytes.db")
    return PostgreSQL(request.getfixturevalue("postgres").fresh())


@pytest.fixture
def database(place: raytes.store.database.Database) -> Iterator[Database]:
    opened = Database(place)
    yield opened
    opened.close()
