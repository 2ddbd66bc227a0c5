"""When the nodes are looked at."""

import asyncio

import pytest

from raytes.dispatch import conditions
from raytes.dispatch.conditions import Conditions
from raytes.runner.condition import Condition

FINE = Condition("0.1", "5.0", 10**12, ())


class Nodes:
    """Nodes that answer when they are told to."""

    def __init__(self) -> None:
        self.looks: list[str] = []
        self.answering = asyncio.Event()
        self.answering.set()

    async def look(self, node: str) -> Condition:
        self.looks.append(node)
        await self.answering.wait()
        return FINE


def test_each_node_is_looked_at_when_it_is_first_seen() -> None:
    async def story() -> None:
        nodes = Nodes()
        seen = Conditions(nodes.look)
        seen.see(["a", "b"], [])
        seen.see(["a", "b", "c"], [])
        await seen.first(10)
        assert sorted(nodes.looks) == ["a", "b", "c"]
        assert seen.of("c") is FINE

    asyncio.run(story())


def test_a_node_that_does_not_answer_is_not_waited_for_without_end() -> None:
    async def story() -> None:
        nodes = Nodes()
        nodes.answering.clear()
        seen = Conditions(nodes.look)
        seen.see(["a"], [])
        await seen.first(0)
        assert seen.of("a") is None
        nodes.answering.set()
        await seen.first(10)
        assert seen.of("a") is FINE

    asyncio.run(story())


def test_only_a_node_with_runners_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        nodes = Nodes()
        seen = Conditions(nodes.look)
        seen.see(["idle", "busy"], [])
        await seen.first(10)
        seen.see(["idle", "busy"], ["busy"])
        assert sorted(nodes.looks) == ["busy", "idle"]
        monkeypatch.setattr(conditions, "_AGAIN_S", 0.0)
        seen.see(["idle", "busy"], ["busy"])
        await asyncio.sleep(0)
        assert sorted(nodes.looks) == ["busy", "busy", "idle"]

    asyncio.run(story())


def test_a_node_that_is_gone_is_forgotten_whenever_its_answer_comes() -> None:
    async def story() -> None:
        nodes = Nodes()
        nodes.answering.clear()
        seen = Conditions(nodes.look)
        seen.see(["a"], [])
        await seen.first(0)
        seen.see([], [])
        nodes.answering.set()
        await seen.first(10)
        assert seen.of("a") is None

    asyncio.run(story())
