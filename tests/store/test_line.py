import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from raytes.config import Settings
from raytes.store.documents import NewTask
from raytes.store.line import Create, Exchange, Line
from raytes.surroundings import runtime_directory, runtime_path


def task(task_id: str, document: bytes = b'{"executors":[]}') -> NewTask:
    return NewTask(
        id=task_id,
        owner="",
        name="näme",
        created="2026-01-01T00:00:00.000Z",
        shape="{}",
        document=document,
        contents=b'{"0":"text"}',
        tags={"key": "välue"},
        warnings=("a line",),
    )


class Shelf:
    """Takes tasks as a store does, but for those that it refuses."""

    def __init__(self, refused: frozenset[str] = frozenset()) -> None:
        self.tasks: list[NewTask] = []
        self._refused = refused

    async def create(self, new: Sequence[NewTask]) -> frozenset[str]:
        self.tasks += [task for task in new if task.id not in self._refused]
        return self._refused


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path)


@asynccontextmanager
async def connected(settings: Settings, create: Create) -> AsyncIterator[Line]:
    with runtime_directory(settings):
        exchange, line = Exchange(settings, create), Line(settings)
        await exchange.open()
        yield line
        line.close()
        exchange.close()


def test_tasks_arrive_as_they_were_sent(settings: Settings) -> None:
    shelf, sent = Shelf(), [task("a"), task("b", b'{"x":"' + b"y" * 5_000_000 + b'"}')]

    async def calls() -> None:
        async with connected(settings, shelf.create) as line:
            assert await line.create(sent) == frozenset()
            assert await line.create([task("c")]) == frozenset()

    asyncio.run(calls())
    assert shelf.tasks == [*sent, task("c")]


def test_those_that_are_refused_are_named(settings: Settings) -> None:
    shelf = Shelf(refused=frozenset({"a"}))

    async def calls() -> None:
        async with connected(settings, shelf.create) as line:
            assert await line.create([task("a"), task("b")]) == {"a"}

    asyncio.run(calls())


def test_a_store_that_fails_says_only_that(settings: Settings) -> None:
    shelf, failures = Shelf(), iter([True, False])

    async def create(new: Sequence[NewTask]) -> frozenset[str]:
        if next(failures):
            raise RuntimeError
        return await shelf.create(new)

    async def calls() -> None:
        async with connected(settings, create) as line:
            assert await line.create([task("a")]) is None
            assert await line.create([task("a")]) == frozenset()

    asyncio.run(calls())


def test_a_line_without_an_exchange_is_no_line(settings: Settings) -> None:
    assert asyncio.run(Line(settings).create([task("a")])) is None


def test_an_exchange_that_cannot_listen_leaves_the_store_alone(settings: Settings) -> None:
    async def calls() -> None:
        with runtime_directory(settings):
            (runtime_path(settings.state_dir) / "raytes.store").mkdir()
            exchange, line = Exchange(settings, Shelf().create), Line(settings)
            await exchange.open()
            assert await line.create([task("a")]) is None
            exchange.close()

    asyncio.run(calls())


def test_a_line_that_breaks_is_dialled_again(settings: Settings) -> None:
    shelf = Shelf()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(10)
        writer.close()

    async def calls() -> None:
        async with connected(settings, shelf.create) as line:
            path = runtime_path(settings.state_dir) / "raytes.store"
            async with await asyncio.start_unix_server(hang_up, path):
                assert await line.create([task("a")]) is None
            exchange = Exchange(settings, shelf.create)
            await exchange.open()
            assert await line.create([task("a")]) == frozenset()
            exchange.close()

    asyncio.run(calls())
    assert shelf.tasks == [task("a")]
