import asyncio
import os
from pathlib import Path

import pytest
from ray.exceptions import RayError

from raytes.config import Settings
from raytes.dispatch.dispatcher import Dispatcher
from raytes.store.actor import Identity, Store
from raytes.store.database import database_of, prepare


def test_a_store_that_cannot_start_ends_so_that_it_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(state_dir=tmp_path)
    prepare(database_of(settings))

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
