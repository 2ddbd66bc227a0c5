import asyncio
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayError
from ray.remote_function import RemoteFunction

from raytes.config import Settings
from raytes.dispatch.nodes import Nodes


def entry(node: str, cpus: float) -> dict[str, object]:
    resources = {"CPU": cpus} if cpus else {}
    address = {"NodeManagerHostname": node, "NodeManagerAddress": "10.0.0.1"}
    return {"NodeID": node, "Alive": True, "Resources": resources, **address}


def test_those_who_ask_for_a_sweep_of_all_nodes_share_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [entry("a", 2), entry("b", 8), entry("head", 0)])

    async def go() -> list[str]:
        nodes = Nodes(Settings(state_dir=tmp_path), "instance", "head", lambda: None)
        await nodes.refresh()
        swept: list[str] = []
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def sweep(node: str) -> bool:
            swept.append(node)
            begun.set()
            return await go_on.wait()

        monkeypatch.setattr(nodes, "sweep", sweep)
        first = asyncio.create_task(nodes.sweep_all())
        await begun.wait()
        later = [asyncio.create_task(nodes.sweep_all()) for _ in range(5)]
        await asyncio.sleep(0)  # they have asked
        assert swept == ["a", "b"]
        go_on.set()
        await asyncio.gather(first, *later)
        return swept

    assert asyncio.run(go()) == ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("said", "fault"), [("", "RayError"), ("  \n", "RayError"), ("first\nlast\n", "last")]
)
def test_a_node_that_cannot_be_looked_at_is_at_fault_whatever_ray_says_of_it(
    said: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def options(self, **_: object) -> "Refusing":
            return self

        def remote(self, *_: object) -> None:
            raise RayError(said)

    node = "a" * 56  # as Ray's ids are
    monkeypatch.setattr(ray, "nodes", lambda: [entry(node, 2)])
    monkeypatch.setattr(ray, "remote", lambda _: Refusing())

    async def go() -> str:
        nodes = Nodes(Settings(state_dir=tmp_path), "instance", "head", lambda: None)
        await nodes.refresh()
        nodes.see([], waiting=True)
        await nodes.first_looks(30)
        condition = nodes.condition(node)
        assert condition is not None
        return condition.fault

    assert fault in asyncio.run(go())


def test_what_is_done_on_nodes_is_one_function_of_ray_however_often_it_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[tuple[str, RemoteFunction]] = []

    def call(self: RemoteFunction, *_: Any, **options: Any) -> "asyncio.Future[list[str]]":
        called.append((options["scheduling_strategy"].node_id, self))
        done: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        done.set_result([])
        return done

    async def go() -> None:
        nodes = Nodes(Settings(), "instance", "head", lambda: None)
        assert await nodes.sweep(first)
        assert await nodes.sweep(second)

    first, second = "a" * 56, "b" * 56  # as Ray's ids are
    monkeypatch.setattr(RemoteFunction, "_remote", call)
    asyncio.run(go())
    assert [node for node, _ in called] == [first, second]
    assert called[0][1] is called[1][1]
