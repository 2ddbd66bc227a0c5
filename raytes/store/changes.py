"""The changes that the store makes: the only place where a task's state is written.

Each is a function of a connection, run by the `Writer` inside a transaction that it may
share with others. Every move of a state goes through `_move`, which asks the table in
`raytes.lifecycle`; what isn't allowed there (late, repeated, of an older attempt) changes
nothing and returns so.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    delete,
    false,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from raytes.attempt import Assignment, Receipt, Update
from raytes.config import Settings
from raytes.failures import FailureReason
from raytes.lifecycle import FINAL, WITH_RUNNER, predecessors
from raytes.models import TesState, TesTask, TesTaskLog
from raytes.moment import now
from raytes.parameters import choices_of
from raytes.store.documents import (
    NewTask,
    UnreadableDocument,
    join_task,
    join_types,
    log_json,
    read_log,
    split_document,
)
from raytes.store.schema import (
    attempts,
    documents,
    receipts,
    service,
    system_logs,
    tags,
    tails,
    tasks,
)
from raytes.store.upsert import InsertNew, Put, insert_new


@dataclass(frozen=True, slots=True)
class Pool:
    """The tasks of one owner and one shape that wait."""

    owner: str
    shape: str


@dataclass(frozen=True, slots=True)
class Queued:
    """A task that waits for a runner."""

    id: str
    pool: Pool


@dataclass(frozen=True, slots=True)
class Running:
    """A task whose current attempt a runner has been given."""

    id: str
    attempt: int
    runner: str
    canceling: bool = False


SERVICE_STOPPED: Final = "service_stopped"
PREEMPTED: Final = "preempted"
MAX_PREEMPTIONS = 10
"""So many attempts at a task may be lost with nodes that were reclaimed and use up no retry."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a runner can't speak for its attempt any more."""

    reason: FailureReason
    sentence: str  # for a person


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a task when an attempt at it ended."""

    id: str
    state: TesState  # a final one, or QUEUED: it is tried again
    pool: Pool
    retries: int  # used up so far
    # Of a final state: what an attempt had staged may still be where it was.
    may_have_staged: bool = False


@dataclass(frozen=True, slots=True)
class Created:
    """What became of tasks that were to be created."""

    fresh: int  # that were not there before
    refused: frozenset[str]  # ids of those for which there was no room


# --- create ---------------------------------------------------------------------------


def create(connection: Connection, new: Sequence[NewTask], room: int | None = None) -> Created:
    """Store new tasks, QUEUED. One that is there already is left as it is.

    `room`: how many may be new; None: all. For those that are there it needs none.
    """
    refused = frozenset() if room is None else _beyond(connection, new, room)
    new = [task for task in new if task.id not in refused]
    if not new:
        return Created(0, refused)
    fresh = insert_new(
        connection,
        tasks,
        [
            {
                "id": task.id,
                "owner": task.owner,
                "state": TesState.QUEUED.value,
                "name": task.name,
                "created": task.created,
                "shape": task.shape,
                "attempt": 0,
                "retries": 0,
            }
            for task in new
        ],
    )
    insert_new(
        connection,
        documents,
        [
            {"task_id": task.id, "document": task.document, "contents": task.contents}
            for task in new
        ],
    )
    tagged = [
        {"key": key, "value": value, "task_id": task.id}
        for task in new
        for key, value in task.tags.items()
    ]
    if tagged:
        insert_new(connection, tags, tagged)
    for task in new:
        # An attempt that has begun tells of a create that came twice.
        if task.warnings and _attempt_of(connection, task.id) == 0:
            _open_log(connection, task.id, 1)
            _warn(connection, task.id, task.warnings)
    return Created(fresh, refused)


def _beyond(connection: Connection, new: Sequence[NewTask], room: int) -> frozenset[str]:
    """The ids of the tasks for which there is no room."""
    stored = select(tasks.c.id).where(tasks.c.id.in_([task.id for task in new]))
    known = frozenset(connection.execute(stored).scalars())
    return frozenset([task.id for task in new if task.id not in known][room:])


# --- attempts -------------------------------------------------------------------------


def assign(connection: Connection, task_id: str, runner: str) -> Assignment | None:
    """Begin the next attempt at a queued task; None if it isn't queued any more.

    Raises:
        UnreadableDocument: what is stored of the task can't be read.
    """
    row = connection.execute(_CREATED, {"task": task_id}).one_or_none()
    if row is None:
        return None
    attempt = row.attempt + 1
    moved = connection.execute(
        _BEGIN, {"task": task_id, "attempt": attempt, "runner": runner}
    ).rowcount
    if not moved:
        return None
    _open_log(connection, task_id, attempt)
    queued_at = _end_of(connection, task_id, row.attempt) or row.created
    begun = assignment(connection, task_id, attempt)
    return replace(begun, queue_seconds=_seconds_since(queued_at))


def assignment(connection: Connection, task_id: str, attempt: int) -> Assignment:
    """What a runner has to know for an attempt.

    Raises:
        UnreadableDocument: what is stored of the task can't be read.
    """
    earlier = _receipts_of(connection, task_id) if attempt > 1 else ()
    return Assignment(task_id, attempt, load(connection, task_id), receipts=earlier)


def resume(connection: Connection, task_id: str, attempt: int) -> tuple[Assignment, bool]:
    """What a runner has been given for the current attempt, and whether it is being cancelled.

    Raises:
        UnreadableDocument: what is stored of the task can't be read.
    """
    row = connection.execute(_CURRENT, {"task": task_id}).one()
    return assignment(connection, task_id, attempt), row.state == TesState.CANCELING.value


def load(connection: Connection, task_id: str) -> TesTask:
    """The document of a task as it was submitted, contents included.

    Raises:
        UnreadableDocument: what is stored of the task can't be read.
    """
    row = connection.execute(_DOCUMENT, {"task": task_id}).one()
    return join_task(row.document, row.contents)


def authorize(
    connection: Connection, task_id: str, attempt: int, staged: Sequence[Receipt]
) -> bool:
    """Whether an attempt may store its outputs. If so, the receipts are kept for the next one:
    with them it takes back what this one has staged, and so its leave.
    """
    row = connection.execute(_CURRENT, {"task": task_id}).one_or_none()
    if row is None or row.attempt != attempt or TesState(row.state) not in _AT_WORK:
        return False
    if staged:
        key = {"task_id": task_id, "attempt": attempt}
        rows = [{**key, "url": receipt.url, "token": receipt.token} for receipt in staged]
        insert_new(connection, receipts, rows)
    return True


def record(connection: Connection, news: Update) -> bool:
    """Apply what a runner says of the attempt that it is at; whether it was news."""
    return _recorded(connection, news) is not None


def end(connection: Connection, last: Update, settings: Settings) -> Ended | None:
    """Apply the last word on an attempt and decide what becomes of the task.

    It is tried again (QUEUED) if the update says so: without a count if the attempt was
    given back (its state is QUEUED), else as long as there are retries left. What was
    cancelled is CANCELED whatever the runner says.

    Returns None if the attempt isn't the current one or has ended before.
    """
    ended = _conclude(connection, last, settings)
    if ended is None:
        return None
    # Then its runner has fenced off the attempts before it, and has stored all that it staged.
    # Else it had it removed, as far as that was possible in the time that a cancel is given.
    in_order = last.state in (TesState.COMPLETE, TesState.EXECUTOR_ERROR)
    if in_order:
        connection.execute(_FORGET, {"task": last.task_id, "of_attempt": last.attempt})
    if ended.state in FINAL and not (in_order and last.attempt == 1):
        others = last.attempt > 1 and not in_order
        staged = others or bool(_receipts_of(connection, last.task_id))
        ended = replace(ended, may_have_staged=staged)
    return ended


def lose(connection: Connection, task: Running, loss: Loss, settings: Settings) -> Ended | None:
    """End an attempt whose runner can't speak for it any more, as `end` does.

    A stop of the service uses up no retry, and neither does a node that was reclaimed, up to
    `MAX_PREEMPTIONS` times.
    """
    row = connection.execute(_RECORDED, {"task": task.id, "of_number": task.attempt}).one_or_none()
    if row is None:
        return None
    given_back = loss.reason == SERVICE_STOPPED or (
        loss.reason == PREEMPTED and _preemptions(connection, task.id) < MAX_PREEMPTIONS
    )
    moment = now()
    lines = [f"{moment} {loss.sentence}"]
    log = read_log(row.log)
    if log is None:
        log = TesTaskLog(logs=[], outputs=[])
        lines.append(f"{moment} What was stored of this attempt can't be read and is left out.")
    log.end_time = moment
    log.metadata = {**(log.metadata or {}), "failure_reason": loss.reason}
    last = Update(
        task.id,
        task.attempt,
        seq=row.seq + 1,
        state=TesState.QUEUED if given_back else TesState.SYSTEM_ERROR,
        log=log,
        system_logs=tuple(lines),
        retry=True,
    )
    ended = _conclude(connection, last, settings)
    if ended is not None and ended.state in FINAL:
        ended = replace(ended, may_have_staged=True)
    return ended


def given_up(connection: Connection, task_id: str) -> Assignment | None:
    """What there is to know of the attempts at a task that has ended, as if for one more; None
    if none was begun.

    Of a task that can't be read these are its receipts: what lies elsewhere than beside an output
    can still be removed.
    """
    if not (attempt := _attempt_of(connection, task_id)):
        return None
    try:
        return assignment(connection, task_id, attempt + 1)
    except UnreadableDocument:
        left = _receipts_of(connection, task_id)
        return Assignment(task_id, attempt + 1, TesTask(executors=[]), receipts=left)


def forget_receipts(connection: Connection, task_id: str) -> None:
    """Nothing that attempts at a task had staged is left."""
    connection.execute(delete(receipts).where(receipts.c.task_id == task_id))


def cancel(connection: Connection, task_id: str) -> tuple[TesState, Running | None] | None:
    """Cancel a task: its state before, and the attempt whose runner must be told, if any.

    None if there is no such task. A task that has ended stays as it is.
    """
    if "\0" in task_id:  # which PostgreSQL takes in no text
        return None
    row = connection.execute(_CURRENT, {"task": task_id}).one_or_none()
    if row is None:
        return None
    state = TesState(row.state)
    if state is TesState.QUEUED:
        _move(connection, task_id, row.attempt, TesState.CANCELED)
    elif state in WITH_RUNNER:
        _move(connection, task_id, row.attempt, TesState.CANCELING)
        return state, Running(task_id, row.attempt, row.runner or "", canceling=True)
    return state, None


def refuse(connection: Connection, task_id: str, reason: FailureReason, line: str) -> Ended | None:
    """End a queued task that can never run; None if it isn't queued any more."""
    row = connection.execute(_CURRENT, {"task": task_id}).one_or_none()
    if row is None or row.state != TesState.QUEUED.value:
        return None
    attempt = row.attempt + 1
    _open_log(connection, task_id, attempt)
    log = TesTaskLog(logs=[], outputs=[], metadata={"failure_reason": reason}, end_time=now())
    connection.execute(_LOG, {"task": task_id, "of_number": attempt, "text": log_json(log)})
    _append_lines(connection, task_id, attempt, [f"{now()} {line}"])
    _move(connection, task_id, row.attempt, TesState.SYSTEM_ERROR)
    pool, tried = Pool(row.owner, row.shape), row.attempt > 0
    return Ended(task_id, TesState.SYSTEM_ERROR, pool, row.retries, may_have_staged=tried)


def note(connection: Connection, task_id: str, line: str) -> None:
    """Add a line to what is said of a task that is queued, in the log of its next attempt."""
    row = connection.execute(_CURRENT, {"task": task_id}).one_or_none()
    if row is not None and row.state == TesState.QUEUED.value:
        _open_log(connection, task_id, row.attempt + 1)
        _append_lines(connection, task_id, row.attempt + 1, [f"{now()} {line}"])


# --- the service ----------------------------------------------------------------------


def remember(connection: Connection, facts: Mapping[str, str]) -> None:
    """Keep facts about the service itself, in place of older ones."""
    connection.execute(Put(service), [{"key": key, "value": value} for key, value in facts.items()])


def recall(connection: Connection) -> dict[str, str]:
    """The facts about the service."""
    return {row.key: row.value for row in connection.execute(select(service))}


def waiting(connection: Connection) -> list[tuple[Pool, int]]:
    """How many tasks of each pool wait."""
    found = connection.execute(WAITING)
    return [(Pool(owner, shape), count) for owner, shape, count in found]


def oldest(connection: Connection, pool: Pool, after: str, limit: int) -> list[Queued]:
    """The oldest waiting tasks of a pool whose ids come after `after`, in their order."""
    found = connection.execute(
        OLDEST, {"of_owner": pool.owner, "of_shape": pool.shape, "after": after, "most": limit}
    )
    return [Queued(id, pool) for id in found.scalars()]


def unrevoked(connection: Connection) -> list[str]:
    """The ids of the tasks that have ended while receipts of theirs are left."""
    ended = [state.value for state in FINAL]
    found = select(receipts.c.task_id).distinct().join(tasks, tasks.c.id == receipts.c.task_id)
    return list(connection.execute(found.where(tasks.c.state.in_(ended))).scalars())


def with_runner(connection: Connection) -> list[Running]:
    """The tasks whose current attempt a runner has been given."""
    given = select(tasks.c.id, tasks.c.attempt, tasks.c.runner, tasks.c.state).where(
        tasks.c.runner.is_not(None)
    )
    return [
        Running(row.id, row.attempt, row.runner, row.state == TesState.CANCELING.value)
        for row in connection.execute(given)
    ]


# --- the statements -------------------------------------------------------------------

_TAILS = Put(tails)


def _is_one_of(states: frozenset[TesState]) -> ColumnElement[bool]:
    # Not `in_`, which SQLAlchemy writes out anew each time it is executed.
    return or_(false(), *(tasks.c.state == state.value for state in sorted(states)))


_CURRENT = select(
    tasks.c.state,
    tasks.c.attempt,
    tasks.c.runner,
    tasks.c.owner,
    tasks.c.shape,
    tasks.c.retries,
).where(tasks.c.id == bindparam("task"))

# A literal, as in the partial index: for a parameter it would not be used.
_WAITS = tasks.c.state == literal_column(f"'{TesState.QUEUED.value}'")

WAITING = (
    select(tasks.c.owner, tasks.c.shape, func.count())
    .where(_WAITS)
    .group_by(tasks.c.owner, tasks.c.shape)
)

OLDEST = (
    select(tasks.c.id)
    .where(
        _WAITS,
        tasks.c.owner == bindparam("of_owner"),
        tasks.c.shape == bindparam("of_shape"),
        tasks.c.id > bindparam("after"),
    )
    .order_by(tasks.c.id)
    .limit(bindparam("most"))
)

_ATTEMPT = select(tasks.c.attempt).where(tasks.c.id == bindparam("task"))

_DOCUMENT = select(documents.c.document, documents.c.contents).where(
    documents.c.task_id == bindparam("task")
)

_BEGIN = (
    update(tasks)
    .where(tasks.c.id == bindparam("task"), _is_one_of(predecessors(TesState.INITIALIZING)))
    .values(
        state=TesState.INITIALIZING.value,
        attempt=bindparam("attempt"),
        runner=bindparam("runner"),
    )
)

_MOVES = {
    after: update(tasks)
    .where(
        tasks.c.id == bindparam("task"),
        tasks.c.attempt == bindparam("of_attempt"),
        _is_one_of(predecessors(after)),
    )
    .values(
        state=after.value,
        **({} if after in WITH_RUNNER else {"runner": None}),
        **({"ended": bindparam("moment")} if after in FINAL else {}),
    )
    for after in TesState
}

_RETRIES = update(tasks).where(tasks.c.id == bindparam("task")).values(retries=bindparam("used"))

_NEXT_SEQ = (
    update(attempts)
    .where(
        attempts.c.task_id == bindparam("task"),
        attempts.c.number == bindparam("of_number"),
        attempts.c.seq < bindparam("newest"),
    )
    .values(seq=bindparam("newest"))
)

_NEXT_LOG = _NEXT_SEQ.values(log=bindparam("text"))

_LOG = (
    update(attempts)
    .where(attempts.c.task_id == bindparam("task"), attempts.c.number == bindparam("of_number"))
    .values(log=bindparam("text"))
)

_RECORDED = select(attempts.c.seq, attempts.c.log).where(
    attempts.c.task_id == bindparam("task"), attempts.c.number == bindparam("of_number")
)

_CREATED = select(tasks.c.created, tasks.c.attempt).where(tasks.c.id == bindparam("task"))

_RECEIPTS = select(receipts.c.url, receipts.c.token).where(receipts.c.task_id == bindparam("task"))

_FORGET = delete(receipts).where(
    receipts.c.task_id == bindparam("task"), receipts.c.attempt == bindparam("of_attempt")
)

_LAST_LINE = select(func.coalesce(func.max(system_logs.c.n), 0)).where(
    system_logs.c.task_id == bindparam("task"), system_logs.c.attempt == bindparam("of_attempt")
)

_AT_WORK = WITH_RUNNER - {TesState.CANCELING}

_WITHOUT_RUNNER = FINAL | {TesState.QUEUED}

_NO_LOG = log_json(TesTaskLog(logs=[], outputs=[]))


def _recorded(connection: Connection, news: Update) -> Any:
    """The task's row as it was before an update which was news; None if it was none."""
    row = connection.execute(_CURRENT, {"task": news.task_id}).one_or_none()
    if row is None or row.attempt != news.attempt or TesState(row.state) in _WITHOUT_RUNNER:
        return None
    missed = _missed_lines(connection, news)
    attempt = {"task": news.task_id, "of_number": news.attempt, "newest": news.seq}
    if news.log is None:
        fresh = connection.execute(_NEXT_SEQ, attempt).rowcount
    else:
        fresh = connection.execute(_NEXT_LOG, {**attempt, "text": log_json(news.log)}).rowcount
    if not fresh:
        return None
    _write(connection, news, [*missed, *news.system_logs])
    if news.state is not None and news.state not in _WITHOUT_RUNNER:
        _move(connection, news.task_id, news.attempt, news.state)
    return row


def _conclude(connection: Connection, last: Update, settings: Settings) -> Ended | None:
    row = _recorded(connection, last)
    if row is None:
        return None
    retries, after = row.retries, last.state or TesState.SYSTEM_ERROR
    if row.state == TesState.CANCELING.value:
        after = TesState.CANCELED
    elif after is TesState.CANCELED:
        # Cancelled on the runner's side only: the store never asked for it.
        after = TesState.SYSTEM_ERROR
    elif last.retry and after is not TesState.QUEUED:
        try:
            asked = load(connection, last.task_id).resources
        except UnreadableDocument as error:
            # Nothing could be tried again, and the attempt must end all the same.
            after = TesState.SYSTEM_ERROR
            _blame(connection, last, "internal_error", str(error))
        else:
            if retries < choices_of(asked, settings).max_retries:
                after, retries = TesState.QUEUED, retries + 1
    _move(connection, last.task_id, last.attempt, after)
    if retries != row.retries:
        connection.execute(_RETRIES, {"task": last.task_id, "used": retries})
    return Ended(last.task_id, after, Pool(row.owner, row.shape), retries)


def _blame(connection: Connection, last: Update, reason: FailureReason, line: str) -> None:
    """Give an attempt that has ended another reason than its runner did."""
    attempt = {"task": last.task_id, "of_number": last.attempt}
    stored = connection.execute(_RECORDED, attempt).one().log
    log = read_log(stored) or TesTaskLog(logs=[], outputs=[])
    log.metadata = {**(log.metadata or {}), "failure_reason": reason}
    connection.execute(_LOG, {**attempt, "text": log_json(log)})
    _append_lines(connection, last.task_id, last.attempt, [f"{now()} {line}"])


def _move(connection: Connection, task_id: str, attempt: int, after: TesState) -> bool:
    values = {"task": task_id, "of_attempt": attempt}
    if after in FINAL:
        values["moment"] = now()
    return bool(connection.execute(_MOVES[after], values).rowcount)


def _attempt_of(connection: Connection, task_id: str) -> int:
    return int(connection.execute(_ATTEMPT, {"task": task_id}).scalar() or 0)


def _preemptions(connection: Connection, task_id: str) -> int:
    """How many attempts at a task were lost with nodes that were reclaimed."""
    logs = connection.execute(select(attempts.c.log).where(attempts.c.task_id == task_id))
    read = filter(None, map(read_log, logs.scalars()))
    return sum((log.metadata or {}).get("failure_reason") == PREEMPTED for log in read)


def _receipts_of(connection: Connection, task_id: str) -> tuple[Receipt, ...]:
    found = connection.execute(_RECEIPTS, {"task": task_id})
    return tuple(Receipt(row.url, row.token) for row in found)


def _end_of(connection: Connection, task_id: str, attempt: int) -> str | None:
    """When an attempt ended; None if there is none of that number or nothing says so."""
    if attempt == 0:
        return None
    row = connection.execute(_RECORDED, {"task": task_id, "of_number": attempt}).one_or_none()
    log = None if row is None else read_log(row.log)
    return None if log is None else log.end_time


def _seconds_since(moment: str) -> float:
    passed = datetime.now(UTC) - datetime.fromisoformat(moment)
    return max(0.0, passed.total_seconds())


def _open_log(connection: Connection, task_id: str, attempt: int) -> None:
    row = {"task_id": task_id, "number": attempt, "seq": 0, "log": _NO_LOG}
    insert_new(connection, attempts, [row])


def _missed_lines(connection: Connection, news: Update) -> list[str]:
    """Those of the unconfirmed lines that came with no update which was applied."""
    if not news.unconfirmed:
        return []
    attempt = {"task": news.task_id, "of_number": news.attempt}
    applied = connection.execute(_RECORDED, attempt).one().seq
    return [line for seq, line in news.unconfirmed if seq > applied]


def _write(connection: Connection, news: Update, lines: Sequence[str]) -> None:
    key = {"task_id": news.task_id, "attempt": news.attempt}
    if news.tails:
        connection.execute(
            _TAILS,
            [
                {**key, "executor": index, "stdout": tail.stdout, "stderr": tail.stderr}
                for index, tail in news.tails.items()
            ],
        )
    if lines:
        _append_lines(connection, news.task_id, news.attempt, lines)
    if news.input_types or news.output_types:
        row = connection.execute(_DOCUMENT, {"task": news.task_id}).one()
        with suppress(UnreadableDocument):  # which is said when it matters
            task = join_types(row.document, news.input_types, news.output_types)
            connection.execute(
                update(documents)
                .where(documents.c.task_id == news.task_id)
                .values(document=split_document(task)[0])
            )


def _append_lines(connection: Connection, task_id: str, attempt: int, lines: Iterable[str]) -> None:
    last = connection.execute(_LAST_LINE, {"task": task_id, "of_attempt": attempt}).scalar_one()
    connection.execute(
        insert(system_logs),
        [
            {"task_id": task_id, "attempt": attempt, "n": n, "line": line}
            for n, line in enumerate(lines, last + 1)
        ],
    )


def _warn(connection: Connection, task_id: str, warnings: Sequence[str]) -> None:
    connection.execute(
        InsertNew(system_logs),
        [
            {"task_id": task_id, "attempt": 1, "n": n, "line": line}
            for n, line in enumerate(warnings, 1)
        ],
    )
