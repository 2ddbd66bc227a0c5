import asyncio
import json
import os
from pathlib import Path

import pytest
from ray.exceptions import RayError
from sqlalchemy import Connection

from raytes.config import Settings
from raytes.dispatch.dispatcher import Dispatcher
from raytes.dispatch.shape import Node
from raytes.store import retention
from raytes.store.actor import Identity, Store
from raytes.store.database import database_of, prepare, recall
from raytes.views import View
from tests.store.conftest import Database


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a service whose database is prepared."""
    settings = Settings(state_dir=tmp_path)
    prepare(database_of(settings))
    return settings


async def nothing(*_: object, **__: object) -> None:
    """Instead of a start of the dispatcher, which needs a Ray."""


def test_a_store_that_cannot_start_ends_so_that_it_is_started_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RayError("Ray's head does not answer")

    async def go() -> list[int]:
        ended = asyncio.Event()
        exits: list[int] = []

        def end(code: int) -> None:
            exits.append(code)
            ended.set()

        monkeypatch.setattr(os, "_exit", end)
        monkeypatch.setattr(Dispatcher, "start", fail)
        Store(settings, Identity("session", "node"))
        await ended.wait()
        return exits

    assert asyncio.run(asyncio.wait_for(go(), 30)) == [1]


def test_a_store_that_dies_while_it_takes_up_what_ran_is_not_yet_a_restarted_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_up = asyncio.Event()

    async def wait(*_: object) -> None:
        await taken_up.wait()

    async def go() -> list[str | None]:
        monkeypatch.setattr(Dispatcher, "start", nothing)
        monkeypatch.setattr(Dispatcher, "taken_up", wait)
        store = Store(settings, Identity("session", "node"))
        await store.ready(30)
        before = recall(database_of(settings)).get("session")
        taken_up.set()
        await store._beginning
        return [before, recall(database_of(settings)).get("session")]

    assert asyncio.run(asyncio.wait_for(go(), 30)) == [None, "session"]


def test_nodes_that_are_drained_at_once_all_stay_so_after_a_restart(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> dict[str, float]:
        monkeypatch.setattr(Dispatcher, "start", nothing)
        monkeypatch.setattr(Dispatcher, "find_node", lambda _, name: Node(name, 1, 1))
        monkeypatch.setattr(Dispatcher, "drain", lambda *_: None)
        monkeypatch.setattr(Dispatcher, "undrain", lambda *_: None)
        store = Store(settings, Identity("session", "node"))
        await asyncio.gather(*(store.drain_node(name) for name in "abc"))
        await asyncio.gather(store.drain_node("d"), store.undrain_node("a"))
        drained: dict[str, float] = json.loads(recall(database_of(settings))["drained"])
        return drained

    assert asyncio.run(asyncio.wait_for(go(), 30)).keys() == {"b", "c", "d"}


@pytest.mark.parametrize(
    ("kept", "expected"),
    [({"retention_age": 0.0}, [True, False, False]), ({"retention_count": 1}, [True, False, True])],
)
def test_a_store_forgets_ended_tasks_as_it_is_set(
    settings: Settings,
    kept: dict[str, float],
    expected: list[bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = Database(database_of(settings))
    tasks = [database.create(), database.cancelled(), database.cancelled()]
    forget = retention.forget

    async def go() -> None:
        loop, forgotten = asyncio.get_running_loop(), asyncio.Event()

        def tell(connection: Connection, last: retention.Last) -> int:
            loop.call_soon_threadsafe(forgotten.set)
            return forget(connection, last)

        monkeypatch.setattr(retention, "forget", tell)
        monkeypatch.setattr(Dispatcher, "start", nothing)
        store = Store(settings.model_copy(update=kept), Identity("session", "node"))
        await store.ready(30)
        await forgotten.wait()
        await store.stop()

    asyncio.run(asyncio.wait_for(go(), 30))
    there = [database.reader.get(task, View.MINIMAL) is not None for task in tasks]
    assert there == expected
    database.close()


def test_the_database_is_for_the_service_s_user_alone(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    (tmp_path / "raytes.db").touch(0o644)
    prepare(database_of(settings))
    database = database_of(settings).writing()
    with database.connect():
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("raytes.db*")}
    database.dispose()
    assert len(modes) == 3
    assert set(modes.values()) == {0o600}
