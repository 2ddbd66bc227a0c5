"""A client of any TES 1.1 server, for notebooks, scripts and the command line.

with Client("http://127.0.0.1:8000") as tes:
    task = TesTask(executors=[TesExecutor(image="alpine", command=["echo", "hello"])])
    id = tes.create(task)
    tes.wait(id)
    print(tes.get(id, View.FULL).logs[-1].logs[0].stdout)
"""

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from raytes.errors import RaytesError
from raytes.lifecycle import FINAL
from raytes.models import BASE_PATH, TesServiceInfo, TesState, TesTask, first_mistake
from raytes.views import View

D = TypeVar("D", bound=BaseModel)

# A short task is seen to end at once; a long one costs the server one request a second.
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_PAUSE_GROWTH = 1.4

# While a task is in one of these, transfers of its data may last.
_WITH_TRANSFERS = frozenset({TesState.INITIALIZING, TesState.RUNNING})

ENDED = FINAL | {TesState.PREEMPTED}
"""The states that nothing follows: raytes leaves no task PREEMPTED, other servers do."""

# Of a request that only reads: for how long it is tried again, in seconds, and the replies that
# say that it may be answered a little later. A service is restarted in less.
_PATIENCE = 60.0
_PASSING = frozenset({429, 502, 503, 504})

# By no proxy that the environment names: none has a way to this machine's loopback addresses.
_WITHOUT_PROXY = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}

# What must be equal for two tails to be laid over each other at all, in characters. Longer
# is quicker on text that repeats itself.
_PROBE = 64


class ClientError(RaytesError):
    """The root of what a `Client` raises."""

    passing = False
    """Whether the same request may be answered a little later."""

    retry_after = 0.0
    """Seconds that the server asks to be left alone for."""


class ServerUnreachable(ClientError):
    """No answer came: the server isn't there, isn't a TES server, or took too long."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        self.passing = passing
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One mistake in what was sent: the field's path (`executors[0].image`) and what is wrong."""

    field: str
    message: str


class RequestRefused(ClientError):
    """The server answered with an error; `status` is the HTTP status."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        errors: Sequence[FieldError],
        retry_after: float = 0.0,
    ) -> None:
        self.status = status
        self.passing = status in _PASSING
        self.retry_after = retry_after
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)
        lines = [f"{title} ({status})" + (f": {detail}" if detail else "")]
        lines += [f"  {error.field}: {error.message}" for error in self.errors]
        super().__init__("\n".join(lines))


class _TimeIsUp(Exception):
    """What is waited for hasn't come by the deadline."""


StreamName = Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True)
class LogText:
    """New text of one stream of one executor. `skipped`: some text before it was not seen."""

    executor: int
    stream: StreamName
    text: str
    skipped: bool = False


class Client:
    """Talks to the TES server at `server`, with `token` as bearer token if there is one.

    `server` is the address with or without the base path; `timeout` is in seconds and for
    one request. Every method raises `ServerUnreachable` and `RequestRefused`. What only reads
    tasks tries for about a minute first, where a server that has answered before doesn't answer
    now, or says that it can't (429, 502, 503, 504). What creates or changes something is sent
    once.
    """

    def __init__(self, server: str, token: str | None = None, *, timeout: float = 30.0) -> None:
        self.server = server.rstrip("/").removesuffix(BASE_PATH)
        try:
            self._http = httpx.Client(
                base_url=self.server + BASE_PATH,
                headers={"Authorization": f"Bearer {token}"} if token else {},
                timeout=timeout,
                verify=_trust(self.server),
                mounts=_WITHOUT_PROXY,
            )
        except httpx.InvalidURL as error:
            raise ServerUnreachable(f"{self.server} is no address of a server: {error}") from error
        # One that never has is less likely to come back than to be somewhere else.
        self._has_answered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def service_info(self) -> TesServiceInfo:
        """What the server says of itself."""
        return self._as(TesServiceInfo, self._request("GET", "/service-info"))

    def health(self) -> dict[str, Any]:
        """How a raytes server and its nodes are; the specification has nothing of the kind.

        Raises:
            RequestRefused: tasks can't be created and run now (status 503), or the server
                isn't raytes (404).
        """
        return self._request("GET", f"{self.server}/health")

    def drain_node(self, node: str, timeout: float | None = None) -> dict[str, Any]:
        """Has a raytes server begin no more tasks on a node; returns its id and name.

        Parameters:
            node: its name, address, id, or the beginning of the id.
            timeout: seconds that the tasks which run there have to end, before they are run
                again elsewhere; None: as the server is set up (`drain_timeout`).

        Raises:
            RequestRefused: there is no such node (status 404), or more than one.
        """
        params = None if timeout is None else {"timeout": timeout}
        return self._request("PUT", self._drain_path(node), params=params)

    def undrain_node(self, node: str) -> dict[str, Any]:
        """Has a raytes server begin tasks on a node again; returns its id and name."""
        return self._request("DELETE", self._drain_path(node))

    def _drain_path(self, node: str) -> str:
        return f"{self.server}/nodes/{quote(node, safe='')}/drain"

    def create(self, task: TesTask | Mapping[str, Any]) -> str:
        """Submits a task, a model or a JSON document as it is, and returns its id."""
        content = task.to_json() if isinstance(task, TesTask) else json.dumps(task)
        reply = self._request(
            "POST", "/tasks", content=content, headers={"Content-Type": "application/json"}
        )
        if "id" not in reply:
            raise self._no_tes_server("the new task has no id")
        return str(reply["id"])

    def get(self, id: str, view: View = View.FULL) -> TesTask:
        """The task as it is now."""
        return self._get(id, view)

    def state(self, id: str) -> TesState:
        """The task's state, as cheaply as the server can say it."""
        return self._get(id, View.MINIMAL).state

    def _get(self, id: str, view: View, deadline: float | None = None) -> TesTask:
        return self._task(self._read(_path(id), {"view": view.value}, deadline))

    def cancel(self, id: str) -> None:
        """Cancels a task. One that has ended stays as it is, and that is no error."""
        self._request("POST", f"{_path(id)}:cancel")

    def wait(
        self,
        *ids: str,
        timeout: float | None = None,
        on_change: Callable[[str, TesState], None] | None = None,
        on_transfer: Callable[[str, str], None] | None = None,
    ) -> dict[str, TesState]:
        """Waits until all tasks have ended and returns their states.

        Parameters:
            timeout: seconds, and no longer than the request that is under way then; None: as
                long as it takes.
            on_change: called with id and state when a task is first seen and whenever its
                state has changed.
            on_transfer: called with id and how far a transfer of inputs or outputs that lasts
                has come, in words for a person; empty: it is over. Only raytes tells it.

        Raises:
            TimeoutError: some task hasn't ended within `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        states: dict[str, TesState] = {}
        try:
            self._watch(ids, states, deadline, on_change, on_transfer)
        except _TimeIsUp as up:
            late = ", ".join(id for id in dict.fromkeys(ids) if states.get(id) not in ENDED)
            raise TimeoutError(f"after {timeout} s not yet at an end: {late}") from up.__cause__
        return states

    def _watch(
        self,
        ids: Sequence[str],
        states: dict[str, TesState],
        deadline: float | None,
        on_change: Callable[[str, TesState], None] | None,
        on_transfer: Callable[[str, str], None] | None,
    ) -> None:
        """Keeps `states` up to date until all are of ended tasks."""
        transfers: dict[str, str] = {}
        pauses = _pauses()
        while True:
            for id in ids:
                if states.get(id) in ENDED:
                    continue
                with_transfers = on_transfer and states.get(id) in _WITH_TRANSFERS
                task = self._get(id, View.BASIC if with_transfers else View.MINIMAL, deadline)
                if on_transfer and (how_far := transfer_of(task)) != transfers.get(id, ""):
                    transfers[id] = how_far
                    on_transfer(id, how_far)
                if task.state is not states.get(id):
                    states[id] = task.state
                    if on_change:
                        on_change(id, task.state)
            if ENDED.issuperset(states.values()):
                return
            pause = next(pauses)
            if deadline is not None and time.monotonic() + pause > deadline:
                raise _TimeIsUp
            time.sleep(pause)

    def follow(
        self, id: str, on_transfer: Callable[[str], None] | None = None
    ) -> Iterator[LogText]:
        """Yields what the executors write, as it comes, until the task has ended.

        It is read from the tails in the task's log, so where a command writes more between
        two looks than a tail holds, the text between is lost and `skipped` says so. An
        attempt that is tried again starts anew.

        `on_transfer` is called at each look with how far a transfer has come (see `wait`), or
        with nothing.
        """
        seen: dict[_Stream, str] = {}
        pauses = _pauses()
        while True:
            task = self.get(id, View.FULL)
            if on_transfer:
                on_transfer(transfer_of(task))
            news = list(_news(task, seen))
            yield from news
            if task.state in ENDED:
                return
            if news:
                pauses = _pauses()
            time.sleep(next(pauses))

    def list(
        self,
        *,
        name_prefix: str | None = None,
        state: TesState | None = None,
        tags: Mapping[str, str] | None = None,
        view: View = View.MINIMAL,
        page_size: int = 256,
    ) -> Iterator[TesTask]:
        """Yields the tasks that fit all filters, newest first, page by page as they are taken.

        An empty value in `tags` fits every value.
        """
        query: dict[str, Any] = {"view": view.value, "page_size": page_size}
        if name_prefix:
            query["name_prefix"] = name_prefix
        if state:
            query["state"] = state.value
        if tags:
            query["tag_key"] = [*tags.keys()]
            query["tag_value"] = [*tags.values()]
        while True:
            page = self._read("/tasks", query)
            if not isinstance(page.get("tasks"), list):
                raise self._no_tes_server("a list of tasks has no tasks")
            yield from map(self._task, page["tasks"])
            if not page.get("next_page_token"):
                return
            query["page_token"] = page["next_page_token"]

    def _read(
        self, path: str, params: dict[str, Any], deadline: float | None = None
    ) -> dict[str, Any]:
        """What is there, asked for again as long as what keeps it from being told may pass."""
        give_up = time.monotonic() + _PATIENCE
        pauses = _pauses()
        while True:
            try:
                return self._request("GET", path, params=params)
            except ClientError as error:
                pause = max(next(pauses), error.retry_after)
                again = time.monotonic() + pause
                if error.passing and deadline is not None and again > deadline:
                    raise _TimeIsUp from error
                if not error.passing or again > give_up:
                    raise
            time.sleep(pause)

    def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **options)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ServerUnreachable(
                f"no answer from {self.server}: {error or type(error).__name__}. "
                "Is the service running, and is this its address?",
                passing=self._has_answered,
            ) from error
        except httpx.RequestError as error:  # what came can't be decoded
            raise self._no_tes_server(str(error) or type(error).__name__) from error
        self._has_answered = True
        if response.is_error:
            raise _refusal(response)
        try:
            reply = response.json()
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            raise self._no_tes_server("a reply is no JSON object")
        return reply

    def _task(self, document: Any) -> TesTask:
        if not isinstance(document, dict):
            raise self._no_tes_server("a task is no JSON object")
        task = self._as(TesTask, {"executors": [], **document})
        if "executors" not in document:
            # The MINIMAL view leaves out what the model requires: it is there, but not as set.
            task.model_fields_set.discard("executors")
        return task

    def _as(self, model: type[D], document: dict[str, Any]) -> D:
        try:
            return model.model_validate(document)
        except ValidationError as error:
            raise self._no_tes_server(f"{model.__name__} {first_mistake(error)}") from error

    def _no_tes_server(self, why: str) -> ServerUnreachable:
        return ServerUnreachable(f"what answers at {self.server} is not a TES server: {why}")


_Stream = tuple[int, int, StreamName]
"""Attempt and executor, both counted from 0, and the stream."""


def _path(id: str) -> str:
    return f"/tasks/{quote(id, safe='')}"


def _trust(server: str) -> ssl.SSLContext | bool:
    """What httpx is to trust: without TLS nobody, as to read all certificates takes long."""
    without_tls = server.lower().startswith("http://")
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if without_tls else True


def _refusal(response: httpx.Response) -> RequestRefused:
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"detail": response.text[:200]}
    mistakes = problem.get("errors")
    if not isinstance(mistakes, list):  # other servers' may be anything
        mistakes = []
    errors = [
        FieldError(str(mistake.get("field", "")), str(mistake.get("message", "")))
        for mistake in mistakes
        if isinstance(mistake, dict)
    ]
    return RequestRefused(
        response.status_code,
        str(problem.get("title", response.reason_phrase)),
        str(problem.get("detail", "")),
        errors,
        _seconds(response.headers.get("Retry-After", "")),
    )


def _seconds(retry_after: str) -> float:
    """A date, which is allowed there too, is left to our own pauses."""
    return float(retry_after) if retry_after.isdecimal() else 0.0


def _pauses() -> Iterator[float]:
    """Seconds between two looks: short at first, then longer."""
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * _PAUSE_GROWTH, _LONGEST_PAUSE)


def transfer_of(task: TesTask) -> str:
    """How far a transfer of the task has come, in words; empty if none lasts."""
    if task.state in ENDED or not task.logs:
        return ""  # an attempt whose node was lost may have left one
    return (task.logs[-1].metadata or {}).get("transfer", "")


def tails(task: TesTask) -> Iterator[LogText]:
    """What the log of a task's last attempt holds of its executors' streams (FULL view)."""
    return _news(task, {})


def _news(task: TesTask, seen: dict[_Stream, str]) -> Iterator[LogText]:
    """What the last attempt's tails hold that `seen` doesn't; `seen` is brought up to date."""
    if not task.logs:
        return
    attempt = len(task.logs) - 1
    for executor, log in enumerate(task.logs[-1].logs):
        streams: dict[StreamName, str | None] = {"stdout": log.stdout, "stderr": log.stderr}
        for stream, text in streams.items():
            tail = text or ""
            if log.end_time is None:
                # The half of a character that is not yet whole.
                tail = tail.rstrip("\ufffd")
            key = (attempt, executor, stream)
            before = seen.get(key, "")
            seen[key] = tail
            shared = overlap(before, tail)
            if len(tail) > shared:
                yield LogText(executor, stream, tail[shared:], skipped=bool(before) and not shared)


def overlap(before: str, after: str) -> int:
    """How many characters at the start of the tail `after` are the end of the tail `before`."""
    probe = after[:_PROBE]
    start = before.find(probe)
    while probe and start >= 0:
        if after.startswith(before[start:]):
            return len(before) - start
        start = before.find(probe, start + 1)
    shorter = range(min(len(before), len(probe) - 1), 0, -1)
    return next((length for length in shorter if before.endswith(probe[:length])), 0)
