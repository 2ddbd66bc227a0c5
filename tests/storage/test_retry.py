"""Trying again what failed for a cause that passes."""

import asyncio

import pytest

from raytes.storage import retry
from raytes.storage.faults import Fault


def pauses(monkeypatch: pytest.MonkeyPatch, *, passing: bool = True) -> list[float]:
    """The seconds that are waited between the attempts at what never succeeds."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def fail() -> None:
        raise OSError

    monkeypatch.setattr(retry.asyncio, "sleep", sleep)
    with pytest.raises(Fault):
        asyncio.run(retry.retrying(fail, lambda error: Fault("it failed", passing=passing)))
    return waited


def test_the_pauses_grow_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = pauses(monkeypatch)
    longest = [0.5, 1.0, 2.0, 4.0]
    assert len(waited) == len(longest)
    assert all(most / 2 <= pause <= most for pause, most in zip(waited, longest, strict=True))


def test_two_that_failed_together_don_t_come_back_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = zip(pauses(monkeypatch), pauses(monkeypatch), strict=True)
    assert all(one != other for one, other in together)


def test_for_what_does_not_pass_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pauses(monkeypatch, passing=False) == []
