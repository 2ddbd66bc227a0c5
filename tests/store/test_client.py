"""A replica's way to a store that another one takes the place of."""

import asyncio
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from ray.exceptions import ActorDiedError

from raytes.config import Settings
from raytes.store import client
from raytes.store.client import StoreClient


class Actor:
    """A store's handle; `create` is what it answers, or raises."""

    def __init__(self, answer: object) -> None:
        self.asked: list[Any] = []
        self.create = self
        self._answer = answer

    def remote(self, tasks: Any) -> "asyncio.Future[Any]":
        self.asked.append(tasks)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if isinstance(self._answer, Exception):
            future.set_exception(self._answer)
        else:
            future.set_result(self._answer)
        return future


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path)


def replaced(monkeypatch: pytest.MonkeyPatch, *actors: Actor | ValueError) -> None:
    monkeypatch.setattr(client.ray, "get_actor", Mock(side_effect=actors))
    monkeypatch.setattr(client, "_LOOK_EVERY_S", 0.0)


def test_a_create_that_a_store_died_over_is_sent_to_the_one_in_its_place(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Actor(ActorDiedError()), Actor(frozenset())
    replaced(monkeypatch, first, ValueError("none is there yet"), second)
    task = Mock(id="a")

    async def go() -> None:
        store = StoreClient(settings)
        monkeypatch.setattr(store._line, "create", Mock(side_effect=_nothing))
        await store.create(task)
        store.close()

    asyncio.run(go())
    assert first.asked[0] == [task]
    assert second.asked == [[task]]


def test_a_store_that_stays_away_is_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_REPLACED_WITHIN_S", 0.0)
    replaced(monkeypatch, Actor(ActorDiedError()))

    async def go() -> None:
        store = StoreClient(settings)
        monkeypatch.setattr(store._line, "create", Mock(side_effect=_nothing))
        with pytest.raises(ActorDiedError):
            await store.create(Mock(id="a"))
        store.close()

    asyncio.run(go())


def test_creates_that_arrive_one_after_the_other_go_as_one_call_where_several_did_before(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced(monkeypatch, Actor(frozenset()))
    calls: list[list[str]] = []

    async def stored(tasks: list[Any]) -> frozenset[str]:
        calls.append([task.id for task in tasks])
        return frozenset()

    async def go() -> None:
        store = StoreClient(settings)
        monkeypatch.setattr(store._line, "create", stored)

        async def create(*ids: str, apart: int = 0) -> None:
            creates = []
            for id in ids:
                creates.append(asyncio.create_task(store.create(Mock(id=id))))
                for _ in range(apart):  # turns of the loop
                    await asyncio.sleep(0)
            await asyncio.gather(*creates)

        await create("alone")
        await create("a", "b")
        await create("c", "d", apart=2)
        store.close()

    asyncio.run(go())
    assert calls == [["alone"], ["a", "b"], ["c", "d"]]


async def _nothing(*_: object) -> None:
    """As of a line that is cut."""
