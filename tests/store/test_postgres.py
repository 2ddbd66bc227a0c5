"""What only PostgreSQL does: it can be far away, go, come back, and have other clients."""

import os
import sys
import threading
import time
from collections.abc import Iterator

import orjson
import psycopg
import pytest
from sqlalchemy import Connection, event

from raytes.attempt import Tails, Update
from raytes.config import Settings, load
from raytes.store import changes, writer
from raytes.store.database import (
    DatabaseUnavailable,
    WrongSchema,
    database_of,
    prepare,
    recall,
    with_password,
)
from raytes.store.pages import Filters
from raytes.store.postgres import PostgreSQL
from raytes.views import View
from tests.postgres import Server
from tests.store.conftest import Database, minimal_task


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.fresh()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(PostgreSQL(url))
    yield opened
    opened.close()


def other_store(url: str) -> writer.Writer:
    place = PostgreSQL(url)
    return writer.Writer(place, place.writing())


def test_one_store_writes_and_another_only_after_it(database: Database, url: str) -> None:
    other = other_store(url)
    with pytest.raises(DatabaseUnavailable, match="another store writes to postgresql://"):
        other.submit(changes.recall).result()
    database.writer.close()
    deadline = time.monotonic() + 30
    while True:  # the server takes a moment to notice that the first is gone
        try:
            assert other.submit(changes.recall).result()["page_secret"] == "secret"
            break
        except DatabaseUnavailable:
            assert time.monotonic() < deadline
    other.close()


def test_stores_in_other_schemas_are_no_others(database: Database, postgres: Server) -> None:
    second = Database(PostgreSQL(postgres.fresh()))
    assert second.create()
    second.close()


def test_a_server_that_died_is_found_again_and_its_lock_taken_again() -> None:
    server = Server()
    url = server.fresh()
    database = Database(PostgreSQL(url))
    task = database.create()
    server.kill()
    with pytest.raises(DatabaseUnavailable, match="can't be written"):
        database.create()
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable, match="can't be read"):
            database.reader.get(task, View.BASIC)
        with pytest.raises(DatabaseUnavailable, match="can't be read"):
            database.reader.page(Filters(), 1, None, View.BASIC)
    server.start()
    second = database.create()
    page = orjson.loads(database.reader.page(Filters(), 9, None, View.MINIMAL))
    assert [found["id"] for found in page["tasks"]] == [second, task]
    assert database.reader.get(task, View.FULL)
    other = other_store(url)
    with pytest.raises(DatabaseUnavailable, match="another store"):
        other.submit(changes.recall).result()
    other.close()
    database.close()
    server.close()


def drop_connection(database: Database, url: str, moment: str) -> None:
    """Have the server drop the writer's connection at a moment of its next transaction."""
    engine = database.writer._engine

    def drop(connection: Connection) -> None:
        assert isinstance(connection.connection.driver_connection, psycopg.Connection)
        pid = connection.connection.driver_connection.info.backend_pid
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))

    event.listen(engine, moment, drop, once=True)


def test_a_connection_lost_before_the_commit_changes_nothing(database: Database, url: str) -> None:
    drop_connection(database, url, "begin")
    with pytest.raises(DatabaseUnavailable):
        database.create()
    assert database.change(changes.waiting) == []
    assert database.create()


def test_a_connection_lost_in_the_commit_ends_the_store(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda code: ended.set() if code else None)
    drop_connection(database, url, "commit")
    with pytest.raises(DatabaseUnavailable):
        database.create()
    assert ended.is_set()


def cut_off_the_writer(url: str) -> None:
    """Have the server drop the connection that has the lock."""
    holder = (
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks "
        "WHERE locktype = 'advisory' AND objid = hashtext(current_schema())::bigint & 4294967295"
    )
    with psycopg.connect(url, autocommit=True) as admin:
        assert admin.execute(holder).fetchall() == [(True,)]


@pytest.mark.parametrize("wrote", [True, False])
def test_a_store_that_was_cut_off_while_another_wrote_ends(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch, wrote: bool
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda code: ended.set() if code else None)
    database.create()
    cut_off_the_writer(url)
    if wrote:
        other = other_store(url)
        other.submit(changes.recall).result()
        cut_off_the_writer(url)
        other.close()
    database.create()
    assert ended.is_set() is wrote


def test_a_program_may_write_nul(database: Database) -> None:
    task = database.create()
    database.change(lambda c: changes.assign(c, task, "r"))
    news = Update(task, 1, 1, tails={0: Tails("a\0b", "")}, system_logs=("c\0d",))
    assert database.change(lambda c: changes.record(c, news))
    [log] = orjson.loads(database.reader.get(task, View.FULL) or b"")["logs"]
    assert log["system_logs"] == ["c\ufffdd"]


def test_an_id_with_nul_is_that_of_no_task(database: Database) -> None:
    assert database.change(lambda c: changes.cancel(c, "\0")) is None


def test_what_two_start_to_make_at_once_is_made_once(url: str) -> None:
    threads = [threading.Thread(target=prepare, args=(PostgreSQL(url),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(recall(PostgreSQL(url))) == {"schema"}


def test_a_list_by_name_is_in_the_order_of_code_points(database: Database) -> None:
    for name in ("b", "B", "é", "a"):
        database.create(minimal_task(name=name))
    names = database.change(lambda c: c.exec_driver_sql("SELECT name FROM tasks ORDER BY name"))
    assert names.scalars().all() == ["B", "a", "b", "é"]


# --- the URL ---------------------------------------------------------------------------

SECRET = "postgresql://somebody:secret@127.0.0.1:1/raytes"


def test_a_password_is_in_no_message() -> None:
    settings = load(database=SECRET)
    database = database_of(settings)
    with pytest.raises(DatabaseUnavailable) as error:
        prepare(database)
    assert "127.0.0.1" in str(error.value)
    for text in (str(error.value), str(settings), repr(settings), database.name):
        assert "secret" not in text


def test_a_password_in_the_environment_goes_where_the_store_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPASSWORD", "another")
    bare = Settings(database="postgresql://somebody@host/raytes")
    found = with_password(bare).database
    assert found is not None
    assert found.get_secret_value() == "postgresql://somebody:another@host/raytes"
    assert with_password(Settings(database=SECRET)).database == Settings(database=SECRET).database
    assert with_password(Settings()).database is None


def test_a_driver_that_is_not_installed_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "raytes.store.postgres")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(WrongSchema, match=r"psycopg.* pip install 'raytes\[postgres\]'"):
        database_of(Settings(database=SECRET))
