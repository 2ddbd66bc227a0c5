"""Which ended tasks have what their lost attempts staged removed, and how often it is tried."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, update

from raytes.attempt import Assignment, Receipt
from raytes.config import Settings
from raytes.dispatch import fencing
from raytes.dispatch.fencing import Fencing
from raytes.models import TesOutput
from raytes.store import changes
from raytes.store.changes import Loss, Running
from raytes.store.schema import documents
from tests.store.conftest import Database, minimal_task

T = TypeVar("T")
OUTPUT = TesOutput(path="/out", url="/files/out")


class Story:
    """Ended tasks, and a node on which what they left is removed, or isn't."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.given_up: list[Assignment] = []  # those with which it was tried
        self.outcomes: list[bool] = []  # of the next tries; then all go well
        self.meanwhile: Callable[[], Awaitable[object]] | None = None  # at the next try
        self.fencing = Fencing(self._remove, self._persist)

    def lost(self, *receipts: Receipt) -> str:
        """A task whose only attempt was lost."""
        task = self.database.create(minimal_task(outputs=[OUTPUT]))
        self.database.change(lambda c: changes.assign(c, task, "runner"))
        self.database.change(lambda c: changes.authorize(c, task, 1, receipts))
        gone = Loss("runner_lost", "It is gone.")
        attempt = Running(task, 1, "runner")
        self.database.change(lambda c: changes.lose(c, attempt, gone, Settings(max_retries=0)))
        return task

    @property
    def tried(self) -> list[str]:
        return [one.task_id for one in self.given_up]

    async def _remove(self, given_up: Assignment) -> bool:
        self.given_up.append(given_up)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return not self.outcomes or self.outcomes.pop(0)

    async def _persist(self, change: Callable[[Connection], T]) -> T:
        return self.database.change(change)


@pytest.fixture
def story(database: Database) -> Story:
    return Story(database)


async def rounds(story: Story, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Go through what is left so many times."""
    pauses = iter(range(count - 1))

    async def pause(_: float) -> None:
        if next(pauses, None) is None:
            raise asyncio.CancelledError

    monkeypatch.setattr(fencing.asyncio, "sleep", pause)
    with pytest.raises(asyncio.CancelledError):
        await story.fencing.what_is_left()


@pytest.mark.parametrize("receipts", [[], [Receipt("file:///files/out", "aside")]])
def test_what_could_not_be_removed_is_tried_again_until_it_is(
    story: Story, receipts: list[Receipt], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = story.lost(*receipts)
    story.outcomes = [False, False]
    asyncio.run(story.fencing.fence_off(task))
    asyncio.run(rounds(story, monkeypatch, 3))
    assert story.tried == [task] * 3


def spoil(story: Story, task: str) -> None:
    """Has its document be damaged."""
    damaged: Any = update(documents).where(documents.c.task_id == task)
    story.database.change(lambda c: c.execute(damaged.values(document=b"{")))


def test_of_a_task_that_can_not_be_read_what_its_receipts_tell_of_is_removed(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = Receipt("s3://bucket/out", "an upload")
    task = story.lost(receipt)
    spoil(story, task)
    asyncio.run(rounds(story, monkeypatch, 2))
    assert story.tried == [task]
    assert story.given_up[0].receipts == (receipt,)


def test_of_a_task_that_can_not_be_read_and_left_no_receipts_nothing_is_tried(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = story.lost()
    spoil(story, task)
    asyncio.run(story.fencing.fence_off(task))
    asyncio.run(rounds(story, monkeypatch, 2))
    assert story.tried == []


def test_a_task_that_can_not_be_fenced_off_keeps_no_other_from_it(
    story: Story, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receipt = Receipt("file:///files/out", "aside")
    first, other = sorted(story.lost(receipt) for _ in range(2))

    async def fail() -> None:
        raise RuntimeError

    story.meanwhile = fail
    asyncio.run(rounds(story, monkeypatch, 1))
    assert story.tried == [first, other]
    assert first in caplog.text


@pytest.mark.parametrize("receipts", [[], [Receipt("file:///files/out", "aside")]])
def test_what_is_being_removed_is_not_removed_twice_at_once(
    story: Story, receipts: list[Receipt], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, other = story.lost(*receipts), story.lost(*receipts)
    story.outcomes = [False]
    asyncio.run(story.fencing.fence_off(other))  # so that a round has something to do
    story.meanwhile = partial(rounds, story, monkeypatch, 1)
    asyncio.run(story.fencing.fence_off(task))
    assert story.tried == [other, task, other]
