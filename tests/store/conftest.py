from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection

from raytes import ids
from raytes.models import TesExecutor, TesTask
from raytes.moment import now
from raytes.store import changes
from raytes.store.database import Writer, open_for_writing
from raytes.store.documents import NewTask, split_document
from raytes.store.reader import Reader

T = TypeVar("T")


class Database:
    """A database with its writer and a reader."""

    def __init__(self, path: Path) -> None:
        self.writer = Writer(open_for_writing(path))
        self.change(lambda c: changes.remember(c, {"page_secret": "secret"}))
        self.reader = Reader(path)

    def change(self, change: Callable[[Connection], T]) -> T:
        return self.writer.submit(change).result()

    def create(self, task: TesTask | None = None, warnings: tuple[str, ...] = ()) -> str:
        new = new_task(task or minimal_task(), warnings)
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


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "raytes.db")
    yield opened
    opened.close()
