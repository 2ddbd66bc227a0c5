"""Walking the pages of a list while others write: against a model of what each task was when."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raytes.store import changes
from raytes.store.pages import Filters
from raytes.views import View
from tests.store.conftest import Database, minimal_task


@dataclass
class Known:
    """What the model knows of a task."""

    name: str
    tags: dict[str, str]
    state: str = "QUEUED"
    matched: list[bool] = field(default_factory=list)  # at each moment of the walk

    def matches(self, filters: Filters) -> bool:
        return (
            self.name.startswith(filters.name_prefix)
            and filters.state in ("", self.state)
            and all(
                key in self.tags and value in ("", self.tags[key]) for key, value in filters.tags
            )
        )


NAMES = st.sampled_from(["", "a", "ab", "b"])
TAGS = st.dictionaries(st.sampled_from("kl"), st.sampled_from(["", "1"]), max_size=2)
NEW = st.tuples(st.just("create"), NAMES, TAGS)
CANCEL = st.tuples(st.just("cancel"), st.integers(0, 30))
WRITES = st.lists(st.one_of(NEW, CANCEL), max_size=3)
FILTERS = st.tuples(
    st.sampled_from(["", "a", "ab"]),
    st.sampled_from(["", "QUEUED", "CANCELED"]),
    st.lists(st.tuples(st.sampled_from("kl"), st.sampled_from(["", "1"])), max_size=2),
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "raytes.db")
    yield opened
    opened.close()


class World:
    """A database and the model, changed in step."""

    def __init__(self, database: Database, run: str) -> None:
        self._database = database
        self._run = run
        self.tasks: dict[str, Known] = {}

    def write(self, what: str, *arguments: Any) -> None:
        if what == "create":
            name, tags = arguments
            task = minimal_task(name=name, tags={**tags, "run": self._run})
            self.tasks[self._database.create(task)] = Known(name, tags)
        elif self.tasks:
            task_id = list(self.tasks)[arguments[0] % len(self.tasks)]
            self._database.change(lambda c: changes.cancel(c, task_id))
            self.tasks[task_id].state = "CANCELED"

    def look(self, filters: Filters) -> None:
        for task in self.tasks.values():
            task.matched.append(task.matches(filters))


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.lists(NEW, max_size=10),
    meanwhile=st.lists(WRITES, max_size=12),
    size=st.integers(1, 4),
    asked=FILTERS,
    view=st.sampled_from(View),
)
def test_a_walk_shows_what_matches_all_the_while_exactly_once(
    database: Database,
    before: list[Any],
    meanwhile: list[list[Any]],
    size: int,
    asked: tuple[str, str, list[tuple[str, str]]],
    view: View,
) -> None:
    run = uuid.uuid4().hex
    world = World(database, run)
    for write in before:
        world.write(*write)
    first = list(world.tasks)
    name_prefix, state, tags = asked
    narrow = Filters(name_prefix, state, tuple(tags))
    filters = Filters(name_prefix, state, (*tags, ("run", run)))
    world.look(narrow)
    found: list[str] = []
    token: str | None = None
    while True:
        page = orjson.loads(database.reader.page(filters, size, token, view))
        found += [task["id"] for task in page["tasks"]]
        token = page.get("next_page_token")
        if token is None:
            break
        assert len(page["tasks"]) == size
        for write in meanwhile.pop() if meanwhile else []:
            world.write(*write)
        world.look(narrow)
    assert found == sorted(set(found), reverse=True)
    always = [task_id for task_id in first if all(world.tasks[task_id].matched)]
    assert set(always) <= set(found)
    assert all(any(world.tasks[task_id].matched) for task_id in found)
