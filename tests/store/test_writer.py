"""The writer, whatever becomes of those who wait for it."""

import threading

from sqlalchemy import Connection

from raytes.store import changes
from tests.store.conftest import Database


class Slow:
    """A change that goes on until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()

    def __call__(self, connection: Connection) -> None:
        changes.remember(connection, {"slow": "made"})
        self.begun.set()
        assert self.may_end.wait(30)


def test_a_change_that_is_given_up_before_its_turn_is_not_made(database: Database) -> None:
    slow = Slow()
    first = database.writer.submit(slow)
    assert slow.begun.wait(30)
    given_up = database.writer.submit(lambda c: changes.remember(c, {"given up": "made"}))
    last = database.writer.submit(changes.recall)
    assert given_up.cancel()
    slow.may_end.set()
    first.result(30)
    assert "given up" not in last.result(30)


def test_a_change_that_is_given_up_while_it_is_made_is_made(database: Database) -> None:
    slow = Slow()
    given_up = database.writer.submit(slow)
    assert slow.begun.wait(30)
    given_up.cancel()
    slow.may_end.set()
    assert database.writer.submit(changes.recall).result(30)["slow"] == "made"
