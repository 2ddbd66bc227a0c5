"""Lists and single tasks of a million beside those of a thousand."""

import time
from collections.abc import Callable
from pathlib import Path

import orjson
from sqlalchemy import Connection, select

from benchmarks.result import Result, median
from raytes import ids
from raytes.attempt import Update
from raytes.config import Settings
from raytes.dispatch.shape import Shape
from raytes.models import TesExecutor, TesState, TesTask
from raytes.moment import now
from raytes.store import changes
from raytes.store.database import prepare
from raytes.store.documents import NewTask, split_document
from raytes.store.pages import Filters
from raytes.store.reader import Reader
from raytes.store.schema import tasks
from raytes.store.sqlite import SQLite
from raytes.store.writer import Writer
from raytes.views import View

MANY = "many"
"""The state directory of the service with many tasks, below that of the benchmark."""

_FEW = 1_000
_RARE = 20  # tasks, however many there are
_BATCH = 5_000
_REPEATS = 30
_PAGE = 256
_FAR = 500  # pages
_SHAPE = Shape(cpus=1, memory=2 * 10**9)

_LONG_LISTS = {
    "no filter": Filters(),
    "state": Filters(state="QUEUED"),
    "tag": Filters(tags=(("group", "a"),)),
    "tag, any value": Filters(tags=(("group", ""),)),
    "name_prefix": Filters(name_prefix="align-"),
}
_SHORT_LISTS = {
    "rare name_prefix": Filters(name_prefix="rare-"),
    "rare state": Filters(state="COMPLETE"),
}


def measure(directory: Path, *, many: int) -> list[Result]:
    """All measures of this module, with `many` tasks beside a thousand."""
    few, lots = filled(directory / "few", _FEW), filled(directory / MANY, many)
    results = []
    for name, filters in {**_LONG_LISTS, **_SHORT_LISTS}.items():
        first = _page(filters, None)
        results.append(_compare(f"list, {name}, first page", few, first, lots, first))
    for name, filters in _LONG_LISTS.items():
        far = _page(filters, _token_of_page(lots, filters, _FAR))
        first = _page(filters, None)
        results.append(_compare(f"list, {name}, page {_FAR}", few, first, lots, far))
    results.append(_compare("get one, FULL", few, _get_one(few), lots, _get_one(lots), must=1.2))
    return results


Read = Callable[[Reader], object]


def _page(filters: Filters, token: str | None) -> Read:
    return lambda reader: reader.page(filters, _PAGE, token, View.MINIMAL)


def _get_one(reader: Reader) -> Read:
    page = reader.page(Filters(), 1, None, View.MINIMAL)
    task_id: str = orjson.loads(page)["tasks"][0]["id"]
    return lambda reader: reader.get(task_id, View.FULL)


def _compare(
    name: str, few: Reader, of_few: Read, lots: Reader, of_lots: Read, must: float = 2.0
) -> Result:
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_REPEATS):
        times[0].append(_timed(of_few, few))
        times[1].append(_timed(of_lots, lots))
    return Result(
        name,
        median(times[1]) / median(times[0]),
        must,
        "less",
        f"{median(times[1]) * 1000:.2f} ms",
        f"{median(times[0]) * 1000:.2f} ms of a thousand",
    )


def _timed(read: Read, reader: Reader) -> float:
    start = time.perf_counter()
    read(reader)
    return time.perf_counter() - start


def _token_of_page(reader: Reader, filters: Filters, number: int) -> str:
    """The token of a page, or of the last before it that has one."""
    token = ""
    for _ in range(number - 1):
        page = orjson.loads(reader.page(filters, _PAGE, token or None, View.MINIMAL))
        if "next_page_token" not in page:
            break
        token = page["next_page_token"]
    return token


def filled(state_dir: Path, count: int) -> Reader:
    """The database of a service with so many queued tasks: each has a tag, three in ten a name
    that begins alike, and some few another; twenty have ended."""
    database = SQLite(Settings(state_dir=state_dir).database_file)
    prepare(database)
    writer = Writer(database, database.writing())
    writer.submit(lambda c: changes.remember(c, {"page_secret": "secret"})).result()
    for start in range(0, count, _BATCH):
        numbers = range(start, min(start + _BATCH, count))
        new = [_task(number, rare=number % (count // _RARE) == 1) for number in numbers]
        writer.submit(lambda c, new=new: changes.create(c, new)).result()
    writer.submit(_end_some).result()
    writer.close()
    return Reader(database)


def _end_some(connection: Connection) -> None:
    queued = connection.execute(select(tasks.c.id)).scalars().all()
    for task_id in queued[:: max(1, len(queued) // _RARE)]:
        changes.assign(connection, task_id, "runner")
        changes.end(connection, Update(task_id, 1, 1, state=TesState.COMPLETE), Settings())


def _task(number: int, *, rare: bool) -> NewTask:
    name = f"rare-{number}" if rare else f"align-{number}" if number % 10 < 3 else "other"
    task = TesTask(
        name=name,
        executors=[TesExecutor(image="busybox", command=["true"])],
        tags={"group": "a" if number % 2 else "b"},
    )
    document, contents = split_document(task)
    return NewTask(
        id=ids.mint(),
        owner="",
        name=name,
        created=now(),
        shape=_SHAPE.key(),
        document=document,
        contents=contents,
        tags=task.tags or {},
    )
