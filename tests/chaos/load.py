"""The load: tasks of several kinds, and the model that knows how each must end."""

import random
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import httpx

from raytes.client import ClientError
from raytes.lifecycle import FINAL
from raytes.models import TesState, TesTask, TesTaskLog
from raytes.views import View
from tests.service.running import Service

KINDS = {
    "succeeds": 4,
    "has steps": 2,
    "fails": 1,
    "fails in part": 1,
    "is cancelled": 1,
    "is cut off": 1,
}
"""What may become of a task, and how often. The last is created on a connection that is cut
before the reply: it is there once or not at all."""

_SHAPES = ({"cpu_cores": 1, "ram_gb": 0.128}, {"cpu_cores": 1, "ram_gb": 0.25}, {"cpu_cores": 2})
_KILLED = 137  # the exit code of a container that was killed from outside
_STUCK_AFTER_S = 120  # without one more task's end
_NAME = "chaos-"
_FILES = ("first", "below/second")  # in the directory that a task of several steps makes


@dataclass
class Sent:
    """A task that was sent, whatever came back."""

    kind: str
    id: str | None = None  # None: nothing came back
    canceled: bool = False


@dataclass
class Load:
    """The tasks of one run, by their names."""

    service: Service
    chance: random.Random
    struck: Collection[str]  # the containers that were killed from outside, as far as it went
    sent: dict[str, Sent] = field(default_factory=dict)

    def submit(self) -> None:
        """Send one more task of a random kind and shape."""
        number = len(self.sent)
        [kind] = self.chance.choices(list(KINDS), list(KINDS.values()))
        sent = self.sent[f"{_NAME}{number}"] = Sent(kind)
        document = {
            "name": f"{_NAME}{number}",
            "inputs": [{"path": "/in/name", "content": f"{_NAME}{number}"}],
            "executors": self._executors(kind),
            "volumes": ["/shared"],
            "outputs": [
                {
                    "path": "/out/result",
                    "url": f"file://{self._output(number)}",
                    "type": "DIRECTORY" if kind == "has steps" else "FILE",
                }
            ],
            "resources": self.chance.choice(_SHAPES),
        }
        try:
            if kind == "is cut off":
                timeout = self.chance.uniform(0.001, 0.03)
                httpx.post(f"{self.service.url}/tasks", json=document, timeout=timeout)
            else:
                sent.id = self.service.client.create(document)
        except (ClientError, httpx.TransportError):
            return  # it was not answered, so nothing was promised

    def cancel_some(self) -> None:
        """Cancel what is to be cancelled and can be now."""
        for sent in list(self.sent.values()):
            if sent.kind == "is cancelled" and sent.id is not None and not sent.canceled:
                try:
                    self.service.client.cancel(sent.id)
                except ClientError:
                    continue  # the service is being killed: later
                sent.canceled = True

    def settle(self) -> list[TesTask]:
        """Wait until every task has ended; all of them."""
        ended, deadline = 0, time.monotonic() + _STUCK_AFTER_S
        while True:
            self.cancel_some()
            try:
                tasks = list(self.service.client.list(name_prefix=_NAME, view=View.FULL))
            except ClientError:
                tasks = []
            for task in tasks:  # one whose create was not answered may have to be cancelled too
                sent = self.sent[task.name or ""]
                sent.id = sent.id or task.id
            open_still = {task.name: task.state for task in tasks if task.state not in FINAL}
            if tasks and not open_still:
                return tasks
            if len(tasks) - len(open_still) > ended:
                ended, deadline = len(tasks) - len(open_still), time.monotonic() + _STUCK_AFTER_S
            assert time.monotonic() < deadline, f"stuck: {open_still}"
            time.sleep(0.2)

    def check(self, tasks: list[TesTask]) -> None:
        """Compare what became of the tasks with what must have."""
        names = [task.name for task in tasks]
        assert len(names) == len(set(names)), "a task is there twice"
        promised = {sent.id for sent in self.sent.values() if sent.id is not None}
        assert promised <= {task.id for task in tasks}, "a task that was answered is lost"
        for task in tasks:
            self._check(task)

    def check_files(self) -> None:
        """Once the service has stopped: nothing but outputs is where these are stored."""
        outputs = {str(number) for number in range(len(self.sent))}
        outputs |= {part for file in _FILES for part in Path(file).parts}
        assert {path.name for path in self.service.files.rglob("*")} <= outputs

    def _check(self, task: TesTask) -> None:
        name = task.name or ""
        kind = self.sent[name].kind
        logs = task.logs or []
        exit_codes = [executor.exit_code for executor in logs[-1].logs] if logs else []
        if task.state is not TesState.CANCELED:
            assert not logs or _killed(logs[-1]) <= set(self.struck), task
        if kind == "is cancelled":
            # Somebody may have been quicker to kill its container.
            assert task.state is TesState.CANCELED or exit_codes[-1:] == [_KILLED], task
        elif kind == "fails":
            assert task.state is TesState.EXECUTOR_ERROR, task
            assert exit_codes in ([3], [_KILLED]), task
        elif exit_codes[-1:] == [_KILLED]:
            assert task.state is TesState.EXECUTOR_ERROR, task
        else:
            assert task.state is TesState.COMPLETE, task
            output = self._output(int(name.removeprefix(_NAME)))
            stored = [output / file for file in _FILES] if kind == "has steps" else [output]
            assert [file.read_text() for file in stored] == [name] * len(stored), task
            assert {file.url: file.size_bytes for file in logs[-1].outputs} == {
                f"file://{file}": str(len(name)) for file in stored
            }
        for log in logs:
            assert log.end_time or task.state is TesState.CANCELED, task
            lines = log.system_logs or []
            assert len(lines) == len(set(lines)), f"a line is there twice: {task}"
        for log in logs[:-1]:
            assert (log.metadata or {}).get("failure_reason") or log.system_logs, task

    def _executors(self, kind: str) -> list[dict[str, object]]:
        write = f"cp /in/name /out/result; sleep 0.{self.chance.randrange(10)}"
        shell = self.service.executor
        if kind == "has steps":
            first, second = _FILES
            make = f"cd /out; mkdir -p result/{Path(second).parent}; cp /shared/it result/{first}"
            return [
                shell("cp", "/in/name", "/shared/it"),
                shell("sh", "-c", f"{make}; cp /shared/it result/{second}"),
            ]
        if kind == "fails":
            return [shell("sh", "-c", f"{write}; exit 3")]
        if kind == "fails in part":
            return [shell("false", ignore_error=True), shell("sh", "-c", write)]
        if kind == "is cancelled":
            return [shell("sleep", "600")]
        return [shell("sh", "-c", write)]

    def _output(self, number: int) -> Path:
        return self.service.files / f"{number}"


def _killed(log: TesTaskLog) -> set[str]:
    """The containers of an attempt that have ended as killed ones do."""
    metadata = log.metadata or {}
    return {
        metadata[f"executor_{index}_container"]
        for index, executor in enumerate(log.logs)
        if executor.exit_code == _KILLED
    }


def until_next_end(moment: float, tasks: list[TesTask]) -> float | None:
    """Seconds from a moment (since the epoch) to the next end of a task; None: there was none."""
    ends = (
        datetime.fromisoformat(log.end_time).timestamp()
        for task in tasks
        for log in (task.logs or [])[-1:]
        if log.end_time
    )
    return min((end - moment for end in ends if end > moment), default=None)
