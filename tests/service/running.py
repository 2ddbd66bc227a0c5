"""A `raytes serve` of the tests' own, started and stopped as a person would."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from raytes.client import Client
from raytes.config import Settings
from raytes.models import TesState, TesTask
from raytes.store.database import database_of, recall
from raytes.surroundings import runtime_path
from raytes.views import View

_UP_WITHIN_S = 120


class Service:
    """One service and its state directory; it can be stopped and started again."""

    def __init__(self, state_dir: Path, image: str, **environment: str) -> None:
        self.state_dir = state_dir
        self.files = state_dir / "files"
        self.scratch = Path(environment.get("RAYTES_SCRATCH_DIR", state_dir / "scratch"))
        self.image = image
        self.environment = environment
        self.url = ""
        self.process: subprocess.Popen[str] | None = None
        self.cluster: Callable[[], list[int]] = list
        """The processes that a cluster which it joins was started with."""

    def start(self, stderr: int | None = None) -> "Service":
        self.process = subprocess.Popen(
            [sys.executable, "-m", "raytes", "serve"],
            env={**os.environ, **self._variables(), **self.environment},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"serving at (http://\S+)", line)
        if not found:
            self.stop()
            raise AssertionError(f"`raytes serve` said {line!r}")
        self.url = found[1]
        return self

    def _variables(self) -> dict[str, str]:
        # The same port again after a restart, as with a person's `--port`.
        port = httpx.URL(self.url).port if self.url else 0
        return {"RAYTES_STATE_DIR": str(self.state_dir), "RAYTES_PORT": str(port)}

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal and wait for the end; the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        self.process = None
        return code

    def containers(self) -> list[str]:
        """The containers of this service that aren't gone."""
        return containers(f"raytes.instance={self._instance}")

    def processes(self) -> list[tuple[int, str]]:
        """The processes of the service, with their command lines: those of its Ray, its
        Podman service, HAProxy, and its containers with their conmon."""
        socket = f"raytes-{hashlib.sha256(self._instance.encode()).hexdigest()[:12]}/"
        # HAProxy leaves its family when it is started anew.
        marks = (socket, f"{runtime_path(self.state_dir)}/h/", *self.containers())
        table = _process_table()
        serving = self.process  # None: it is stopped, or another thread is just starting it
        family = {*([serving.pid] if serving else ()), *self.cluster()}
        family |= {pid for pid, (_, line) in table.items() if any(mark in line for mark in marks)}
        while grown := {pid for pid, (parent, _) in table.items() if parent in family} - family:
            family |= grown
        return [(pid, line) for pid, (_, line) in table.items() if pid in family]

    @cached_property
    def _instance(self) -> str:
        """What tells its containers and its Podman service from those of others. It is asked for
        once: the database may be out of reach later."""
        url = self.environment.get("RAYTES_DATABASE")
        return recall(database_of(Settings(state_dir=self.state_dir, database=url)))["instance"]

    def store(self) -> int | None:
        """The process of the store, if there is one at the moment."""
        return next(iter(self._parts("ray::Store")), None)

    def kill_store(self) -> None:
        """Kill the store, and wait until it is there again."""
        self.kill("ray::Store")

    def kill(self, part: str) -> None:
        """Kill the part of the service whose command line begins so (a regular expression), and
        wait until it is there again."""
        deadline = time.monotonic() + 60
        killed = self._parts(part)
        assert killed
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        while not self._parts(part) - killed:
            assert time.monotonic() < deadline, f"{part} does not come back"
            time.sleep(0.05)

    def _parts(self, part: str) -> set[int]:
        return {pid for pid, line in self.processes() if re.match(part, line)}

    def await_answer(self, but_never: int = 0) -> None:
        """Wait until the service answers well; `but_never`: with another status than this."""
        deadline = time.monotonic() + 60
        while True:
            with suppress(httpx.TransportError):
                answer = httpx.get(f"{self.url}/service-info", timeout=5)
                assert answer.status_code != but_never, answer.text
                if answer.is_success:
                    return
            assert time.monotonic() < deadline, f"{self.url} does not answer"
            time.sleep(0.05)

    @property
    def client(self) -> Client:
        return Client(self.url)

    def post(self, body: bytes | str, content_type: str = "application/json") -> httpx.Response:
        headers = {"Content-Type": content_type}
        return httpx.post(f"{self.url}/tasks", content=body, headers=headers)

    def executor(self, *command: str, **fields: Any) -> dict[str, Any]:
        return {"image": self.image, "command": list(command), **fields}

    def submit(self, *command: str, **fields: Any) -> str:
        """Submit a task of one executor."""
        return self.client.create({"executors": [self.executor(*command)], **fields})

    def submit_waiting(self, then: str = "echo done", **fields: Any) -> str:
        """Submit a task that waits for `let_go`, and return when it was seen to run."""
        script = f"echo up; until [ -e /files/go ]; do sleep 0.1; done; {then}"
        files = {"url": f"file://{self.files}", "path": "/files", "type": "DIRECTORY"}
        task_id = self.submit("sh", "-c", script, inputs=[files], **fields)
        self.await_stdout(task_id, "up")
        return task_id

    def let_go(self) -> None:
        """Let the tasks that wait end."""
        (self.files / "go").touch()

    def hold(self) -> None:
        """Let such tasks wait again."""
        (self.files / "go").unlink(missing_ok=True)

    def run(self, *command: str, **fields: Any) -> TesTask:
        """Run a task of one executor to its end."""
        return self.finish(self.submit(*command, **fields))

    def run_task(self, **document: Any) -> TesTask:
        return self.finish(self.client.create(document))

    def finish(self, task_id: str) -> TesTask:
        """Wait for the end of a task; the task in full."""
        with self.client as client:
            client.wait(task_id, timeout=120)
            return client.get(task_id, View.FULL)

    def await_state(self, task_id: str, *states: TesState) -> TesTask:
        """Wait until a task is in one of some states; the task in full."""
        deadline = time.monotonic() + 60
        with self.client as client:
            while True:
                task = client.get(task_id, View.FULL)
                if task.state in states:
                    return task
                assert time.monotonic() < deadline, f"{task_id} stays {task.state}"
                time.sleep(0.02)

    def await_system_log(self, task_id: str, text: str) -> TesTask:
        """Wait until something is said in the system log of any attempt at a task."""
        deadline = time.monotonic() + 120
        with self.client as client:
            while True:
                task = client.get(task_id, View.FULL)
                if any(text in line for log in task.logs or [] for line in log.system_logs or []):
                    return task
                assert time.monotonic() < deadline, f"{task_id} is never told {text!r}: {task}"
                time.sleep(0.05)

    def await_health(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the health document is as it should be."""
        deadline = time.monotonic() + 120
        with self.client as client:
            while not condition(health := client.health()):
                assert time.monotonic() < deadline, health
                time.sleep(0.1)
            return health

    def await_stdout(self, task_id: str, text: str) -> TesTask:
        """Wait until a task's first executor has said something."""
        deadline = time.monotonic() + 60
        with self.client as client:
            while True:
                task = client.get(task_id, View.FULL)
                if (
                    task.logs
                    and task.logs[-1].logs
                    and text in (task.logs[-1].logs[0].stdout or "")
                ):
                    return task
                assert time.monotonic() < deadline, f"{task_id} never says {text!r}: {task}"
                time.sleep(0.02)


def containers(label: str) -> list[str]:
    """The containers with a label that aren't gone."""
    listed = subprocess.run(
        ["podman", "ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={label}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.split()


def _process_table() -> dict[int, tuple[int, str]]:
    """Each process' parent and command line."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True
    )
    rows = (line.split(maxsplit=2) for line in listed.stdout.splitlines())
    return {int(row[0]): (int(row[1]), row[2]) for row in rows if len(row) == 3}


def processes(part: str) -> list[str]:
    """The command lines of the processes that have `part` in theirs."""
    found = subprocess.run(["pgrep", "--list-full", "--full", part], capture_output=True, text=True)
    return [line for line in found.stdout.splitlines() if "pgrep" not in line]
