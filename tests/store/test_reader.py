"""Lists, held against a naive model of the specification's words."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, text, update

from raytes.models import TesInput, TesState, TesTask
from raytes.moment import now
from raytes.store import changes, reader, schema
from raytes.store.database import DatabaseUnavailable
from raytes.store.pages import Filters
from raytes.views import View
from tests.store.conftest import Database, minimal_task

NAMES = st.one_of(st.none(), st.text("aAbé\U0010ffff", max_size=3))
KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from(["", "1", "2"])
OWNERS = st.sampled_from(["", "somebody"])
TASKS = st.fixed_dictionaries(
    {
        "name": NAMES,
        "tags": st.dictionaries(KEYS, VALUES),
        "cancelled": st.booleans(),
        "owner": OWNERS,
    }
)
FILTERS = st.builds(
    Filters,
    name_prefix=st.text("aAbé\U0010ffff", max_size=2),
    state=st.sampled_from(["", "QUEUED", "CANCELED", "RUNNING"]),
    tags=st.lists(st.tuples(KEYS, VALUES), max_size=2).map(tuple),
    owner=OWNERS,
)


def walk(database: Database, filters: Filters, size: int, view: View) -> list[dict[str, Any]]:
    """All pages, one after the other."""
    found: list[dict[str, Any]] = []
    token = None
    while True:
        page = orjson.loads(database.reader.page(filters, size, token, view))
        assert len(page["tasks"]) <= size
        found += page["tasks"]
        if "next_page_token" not in page:
            return found
        assert page["tasks"], "an empty page promised another"
        token = page["next_page_token"]


def matches(task: dict[str, Any], filters: Filters) -> bool:
    state = "CANCELED" if task["cancelled"] else "QUEUED"
    return (
        task["owner"] == filters.owner
        and (task["name"] or "").startswith(filters.name_prefix)
        and filters.state in ("", state)
        and all(
            key in task["tags"] and value in ("", task["tags"][key]) for key, value in filters.tags
        )
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TASKS, max_size=12), FILTERS, st.integers(1, 5), st.sampled_from(View))
def test_pages_show_each_matching_task_once_the_newest_first(
    database: Database,
    tasks: list[dict[str, Any]],
    filters: Filters,
    size: int,
    view: View,
) -> None:
    run = now() + str(id(tasks))
    expected = []
    for task in tasks:
        document = minimal_task(name=task["name"], tags={**task["tags"], "run": run})
        task_id = database.create(document, owner=task["owner"])
        if task["cancelled"]:
            database.change(lambda c, t=task_id: changes.cancel(c, t))
        if matches(task, filters):
            expected.append(task_id)
    only_these = replace(filters, tags=(*filters.tags, ("run", run)))
    found = walk(database, only_these, size, view)
    assert [task["id"] for task in found] == expected[::-1]


@pytest.mark.parametrize(
    ("few", "newest", "some"),
    [(99, 0, 0), (0, 99, 0), (0, 3, 99), (0, 3, 0)],
    ids=["few have it", "the newest have it", "some have it", "many have it"],
)
@pytest.mark.parametrize("state", ["", "QUEUED"])
def test_a_list_by_name_is_the_same_however_many_have_it(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    few: int,
    newest: int,
    some: int,
    state: str,
) -> None:
    monkeypatch.setattr(reader, "_FEW", few)
    monkeypatch.setattr(reader, "_NEWEST", newest)
    monkeypatch.setattr(reader, "_SOME", some)
    names = ["a-1", None, "b", "a-2", "ab", "a", "a-", "A-1", "a-3", "b", "a-4", "b"]
    tasks = [database.create(minimal_task(name=name)) for name in names]
    database.change(lambda c: changes.cancel(c, tasks[3]))
    database.create(minimal_task(name="a-5"), owner="somebody else")
    expected = [
        task
        for task, name in zip(tasks, names, strict=True)
        if (name or "").startswith("a-") and not (state and task == tasks[3])
    ]
    for size in (1, 2, 99):
        found = walk(database, Filters("a-", state), size, View.MINIMAL)
        assert [task["id"] for task in found] == expected[::-1]


def test_a_walk_is_not_disturbed_by_what_is_created_and_ended_meanwhile(
    database: Database,
) -> None:
    before = [database.create() for _ in range(10)]
    first = orjson.loads(database.reader.page(Filters(), 4, None, View.MINIMAL))
    database.create()
    database.change(lambda c: changes.cancel(c, before[2]))
    found = [task["id"] for task in first["tasks"]]
    token = first["next_page_token"]
    while token:
        page = orjson.loads(database.reader.page(Filters(), 4, token, View.MINIMAL))
        found += [task["id"] for task in page["tasks"]]
        token = page.get("next_page_token")
    assert found == before[::-1]


def test_the_last_page_has_no_token_even_if_it_is_full(database: Database) -> None:
    for _ in range(4):
        database.create()
    page = orjson.loads(database.reader.page(Filters(), 4, None, View.MINIMAL))
    assert len(page["tasks"]) == 4
    assert "next_page_token" not in page


def test_a_list_shows_each_task_as_get_does(database: Database) -> None:
    task = database.create(minimal_task(name="n"), warnings=("line",))
    for view in View:
        one = database.reader.get(task, view)
        page = orjson.loads(database.reader.page(Filters(), 1, None, view))
        assert one is not None
        assert page["tasks"] == [orjson.loads(one)]


LARGE = 10_000
LOG = b'{"logs":[{"exit_code":0}],"outputs":[]}'


def large_in(place: str, database: Database) -> str:
    """A task with that much in one place."""
    text = "x" * LARGE
    if place == "document":
        return database.create(minimal_task(description=text))
    if place == "contents":
        return database.create(minimal_task(inputs=[TesInput(path="/in", content=text)]))
    if place == "lines":
        return database.create(warnings=(text,))
    task = database.create()
    log = {"task_id": task, "number": 1, "seq": 1, "log": LOG}
    tail = {"task_id": task, "attempt": 1, "executor": 0, "stdout": "", "stderr": text}
    if place == "log":
        log["log"] = orjson.dumps(orjson.loads(LOG) | {"metadata": {"k": text}})
    database.change(lambda c: c.execute(insert(schema.attempts), log) and None)
    if place == "tails":
        database.change(lambda c: c.execute(insert(schema.tails), tail) and None)
    return task


@pytest.mark.parametrize(
    ("large", "cut"),
    [
        ("document", {View.BASIC, View.FULL}),
        ("log", {View.BASIC, View.FULL}),
        ("contents", {View.FULL}),
        ("tails", {View.FULL}),
        ("lines", {View.FULL}),
    ],
)
def test_a_page_of_large_tasks_is_shorter_and_the_list_goes_on_behind_it(
    database: Database, monkeypatch: pytest.MonkeyPatch, large: str, cut: set[View]
) -> None:
    expected = [large_in(large, database) for _ in range(7)]
    for bytes_per_page, length in ((3.5 * LARGE, 3), (0.5 * LARGE, 1), (9 * LARGE, 7)):
        monkeypatch.setattr(reader, "_PAGE_BYTES", bytes_per_page)
        for view in View:
            page = orjson.loads(database.reader.page(Filters(), 9, None, view))
            assert len(page["tasks"]) == (length if view in cut else 7)
            assert [task["id"] for task in walk(database, Filters(), 9, view)] == expected[::-1]


def test_what_is_not_there_is_none(database: Database) -> None:
    assert database.reader.get("nothing", View.FULL) is None
    assert database.reader.get("\x00", View.FULL) is None


def test_every_state_can_be_filtered_by(database: Database) -> None:
    database.create()
    for state in TesState:
        page = orjson.loads(database.reader.page(Filters(state=state), 9, None, View.MINIMAL))
        assert len(page["tasks"]) == (state is TesState.QUEUED)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_database_that_can_not_be_read_is_said_to_be_unavailable(database: Database) -> None:
    task = database.create()
    database.change(lambda c: c.exec_driver_sql("DROP TABLE documents"))
    with pytest.raises(DatabaseUnavailable, match="can't be read: no such table"):
        database.reader.get(task, View.BASIC)
    with pytest.raises(DatabaseUnavailable, match="can't be read: no such table"):
        database.reader.page(Filters(), 1, None, View.BASIC)
    assert database.reader.get(task, View.MINIMAL)


def test_logs_are_there_and_empty_before_the_first_attempt(database: Database) -> None:
    task = database.create()
    for view in (View.BASIC, View.FULL):
        assert orjson.loads(database.reader.get(task, view) or b"")["logs"] == []
    minimal = orjson.loads(database.reader.get(task, View.MINIMAL) or b"")
    assert minimal == {"id": task, "state": "QUEUED"}


@pytest.mark.parametrize("left", [b'{"name":"\0\0\0\0"}', b'{"name":"\xfe\x8f"}'])
def test_what_a_disk_has_damaged_spoils_no_answer(database: Database, left: bytes) -> None:
    missing, of_document, of_log, whole = (database.create() for _ in range(4))
    remove_document = delete(schema.documents).where(schema.documents.c.task_id == missing)
    spoil_document = update(schema.documents).where(schema.documents.c.task_id == of_document)
    log = {"task_id": of_log, "number": 1, "seq": 1, "log": left}
    database.change(lambda c: c.execute(remove_document) and None)
    database.change(lambda c: c.execute(spoil_document.values(document=left)) and None)
    database.change(lambda c: c.execute(insert(schema.attempts), log) and None)
    for view in (View.BASIC, View.FULL):
        shown = orjson.loads(database.reader.page(Filters(), 9, None, view))["tasks"]
        assert [task["id"] for task in shown] == [whole, of_log, of_document, missing]
        assert shown == [orjson.loads(database.reader.get(t["id"], view) or b"") for t in shown]
        assert all("damaged" in task["description"] for task in shown[2:])
        assert shown[1]["executors"] == shown[0]["executors"]
        [log_shown] = shown[1]["logs"]
        assert "damaged" in log_shown["metadata"]
        for task in shown:
            TesTask.model_validate(task)


def test_noise_in_what_a_program_has_written_spoils_no_answer(tmp_path: Path) -> None:
    database = Database(tmp_path / "raytes.db")  # PostgreSQL takes no noise in text
    of_text, whole = database.create(), database.create()
    attempt = {"task_id": of_text, "attempt": 1}
    log = {"task_id": of_text, "number": 1, "seq": 1, "log": b'{"logs":[{"exit_code":0}]}'}
    tail = {**attempt, "executor": 0, "stdout": "", "stderr": "whole"}
    database.change(lambda c: c.execute(insert(schema.attempts), log) and None)
    database.change(lambda c: c.execute(insert(schema.tails), tail) and None)
    line = {**attempt, "n": 1, "line": ""}
    database.change(lambda c: c.execute(insert(schema.system_logs), line) and None)
    for column in ("tails SET stdout", "system_logs SET line"):
        spoil = text(f"UPDATE {column} = CAST(x'61ff00' AS TEXT)")
        database.change(lambda c, spoil=spoil: c.execute(spoil) and None)
    shown = orjson.loads(database.reader.page(Filters(), 9, None, View.FULL))["tasks"]
    assert [task["id"] for task in shown] == [whole, of_text]
    assert shown[1] == orjson.loads(database.reader.get(of_text, View.FULL) or b"")
    [log_shown] = shown[1]["logs"]
    assert log_shown["system_logs"] == ["a\ufffd\0"]
    assert log_shown["logs"] == [{"exit_code": 0, "stdout": "a\ufffd\0", "stderr": "whole"}]
    database.close()


@pytest.mark.parametrize("contents", [b'{"7":"in"}', b'{"0":', b"[]"])
def test_damaged_contents_spoil_no_answer(database: Database, contents: bytes) -> None:
    task = database.create(minimal_task(inputs=[TesInput(path="/in", content="in")]))
    spoil = update(schema.documents).where(schema.documents.c.task_id == task)
    database.change(lambda c: c.execute(spoil.values(contents=contents)) and None)
    shown = orjson.loads(database.reader.get(task, View.FULL) or b"")
    assert "damaged" in shown["description"]
    assert "inputs" in orjson.loads(database.reader.get(task, View.BASIC) or b"")
