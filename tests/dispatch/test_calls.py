import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from raytes.dispatch import calls
from raytes.dispatch.calls import insist


class Time:
    """A clock that goes on as it is told."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(calls, "time", clock)
    monkeypatch.setattr(calls, "_ASK_AGAIN_S", 0.0)
    return clock


class Method:
    """A method of an actor: each call takes so many seconds, then answers or finds that the
    actor can't be reached."""

    def __init__(self, clock: Time, outcomes: Iterator[tuple[float, str]]) -> None:
        self._clock = clock
        self._outcomes = outcomes

    async def remote(self) -> str:
        seconds, answer = next(self._outcomes)
        self._clock.now += seconds
        if not answer:
            raise ActorUnavailableError("the traffic is cut", None)
        return answer


class Actor:
    def __init__(self, **methods: Method) -> None:
        self.__dict__.update(methods)

    describe: Any
    run: Any


def test_however_long_a_call_was_its_actor_may_be_out_of_reach_for_a_while(clock: Time) -> None:
    run = Method(clock, iter([(5000, ""), (5000, ""), (5000, "end")]))
    describe = Method(clock, iter([(0, ""), (500, ""), (90, "there"), (590, "there")]))
    actor = Actor(describe=describe, run=run)
    assert asyncio.run(insist(actor, actor.run.remote)) == "end"


def test_an_actor_that_stays_out_of_reach_is_given_up(clock: Time) -> None:
    run = Method(clock, iter([(5000, "")]))
    actor = Actor(describe=Method(clock, iter([(590, ""), (20, "")])), run=run)
    with pytest.raises(ActorUnavailableError):
        asyncio.run(insist(actor, actor.run.remote))
