"""One executor: its container from creation to removal."""

import contextlib
import os
import posixpath
import re
import shlex
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from raytes.errors import ContainerLost, ContainerRefused, PodmanUnavailable
from raytes.models import TesExecutor
from raytes.runner.cgroup import Cgroup, Usage
from raytes.runner.control import Control
from raytes.runner.lean_conmon import is_lean
from raytes.runner.metadata_service import keep_away
from raytes.runner.mounted import check_mounts, check_sources
from raytes.runner.mounts import Bind, is_below
from raytes.runner.podman import Attachment, ContainerState, Engine, ended_early, has_ended
from raytes.runner.report import Report
from raytes.runner.stdio import Streams, unreadable, unwritable
from raytes.runner.streams import Output, StdinPump, Tail, read_outputs
from raytes.runner.submounts import mount_points_below

_CPU_PERIOD: Final = 100_000  # microseconds
_FIRST_POLL: Final = 0.003  # seconds
_LAST_POLL: Final = 0.25  # seconds
_ENDED_WITHIN: Final = 1.0  # seconds; conmon ends a moment after its container
_REMOVAL_ATTEMPTS: Final = 20
_KILLS: Final = 8  # attempts, over some 25 seconds
_FIRST_KILL: Final = 0.1  # seconds until the second one
_GPU_KIND: Final = "nvidia.com/gpu"  # of the Container Device Interface
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as a shell has it

# Podman's own words for a program that isn't there, or that can't be executed. `exec` tells it
# from a directory or a mount of which the runtime says the same.
_PROGRAM_MISSING: Final = re.compile(
    r"exec.*attempted to invoke a command that was not found", re.S
)
_PROGRAM_REFUSED: Final = re.compile(r"(exec|open executable).*OCI.* permission denied", re.S)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container may use."""

    cpu_cores: int
    memory: int  # bytes; no swap on top
    pids: int  # processes and threads
    shm: int  # bytes
    enforced: Collection[str]  # of memory, cpu, pids: those that the node can


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What all containers of an attempt have in common."""

    name: str
    labels: Mapping[str, str]
    limits: Limits
    network: str
    gpus: Sequence[str]  # as Ray names those that it has assigned
    run_entrypoint: bool
    stop_grace: float  # seconds
    log_tail_bytes: int


@dataclass(frozen=True, slots=True)
class Result:
    """How an executor has ended."""

    exit_code: int
    memory_kill: bool  # whether the kernel has killed a process of it that needed too much
    seconds: float


class Execution:
    """An executor in the middle of being run.

    Its program isn't begun before `await_turn` returns.
    """

    def __init__(
        self,
        engine: Engine,
        executor: TesExecutor,
        volumes: Iterable[str],
        sandbox: Sandbox,
        binds: Sequence[Bind],
        streams: Streams,
        report: Report,
        control: Control,
        await_turn: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._executor = executor
        self._sandbox = sandbox
        self._streams = streams
        self._report = report
        self._control = control
        self._await_turn = await_turn
        self._stdout = Output(Tail(sandbox.log_tail_bytes), streams.stdout)
        self._stderr = Output(Tail(sandbox.log_tail_bytes), streams.stderr)
        mounts = [*binds, *_submounts(binds)]
        self._exposed = [bind for bind in mounts if bind.exposed]
        check_sources(self._exposed)
        self.container, warnings = engine.create(
            specification(executor, volumes, sandbox, mounts, with_stdin=streams.stdin is not None)
        )
        self.layer: Path | None = None
        """On the node: what the container has written into its own filesystem, once it can."""
        self.is_cleaned_up = False
        """Whether Podman sets about cleaning the container up by itself when it has ended."""
        self._over = threading.Event()
        for warning in warnings:
            report.line(f"podman warns: {warning}")

    def run(self) -> Result:
        """Run the program to its end.

        Raises:
            Canceled: the container was told to end, and has been killed.
            ContainerRefused: Podman can't run it (not: a program that is missing).
            PodmanUnavailable: the node's Podman went away.
            InputFailed: another task has turned an input into something else.
            SystemFault: a file for stdout or stderr can't be written, or that for stdin be read.
        """
        with self._control.killing(self._kill), self._until_over():
            try:
                self._engine.initialize(self.container)
            except ContainerRefused as refusal:
                return self._never_began(refusal)
            initialized = self._engine.inspect(self.container)
            if not initialized.pid:
                raise ended_early(self.container)
            with _watched(initialized.conmon_pid) as conmon:
                self._look_at(initialized)
                cgroup = Cgroup(self.container, initialized.pid)
                with self._attached(conmon) as attachment, self._fed(conmon) as feed:
                    self._await_turn()
                    self._start(conmon)
                    feed()
                    index, began = self._began(), time.monotonic()
                    if self._control.stop.is_set():  # its kill may have come too early
                        self._kill()
                    self._read(attachment, index)
                    state = self._await_end(attachment, conmon, cgroup)
                    usage = cgroup.usage()
        self._report.executor_ended(index, state.exit_code)
        self._report.metadata(**_metadata(index, usage))
        self._control.check()
        memory_kill = bool(usage.memory_kills) or state.oom_killed
        return Result(state.exit_code, memory_kill, time.monotonic() - began)

    def _look_at(self, initialized: ContainerState) -> None:
        """See to what has to be right of a container before its program begins."""
        check_mounts(self._exposed, initialized.pid)
        self.layer = initialized.layer
        self.is_cleaned_up = not is_lean(initialized.conmon_pid)
        if wrong := keep_away(initialized.pid, initialized.network):
            self._report.line(f"a cloud's metadata service can't be kept away: {wrong}")

    @contextlib.contextmanager
    def _until_over(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._over.set()

    def _start(self, conmon: "_Conmon") -> None:
        try:
            self._engine.start(self.container)
        except ContainerRefused as refusal:
            if not conmon.ends_within(_ENDED_WITHIN):
                raise
            raise ended_early(self.container) from refusal

    def _began(self) -> int:
        index = self._report.executor_started(self._stdout.tail, self._stderr.tail)
        self._report.metadata(**{f"executor_{index}_container": self.container})
        return index

    @contextlib.contextmanager
    def _attached(self, conmon: "_Conmon") -> Iterator[Attachment]:
        attached = self._engine.attach(self.container, conmon.process)
        with contextlib.closing(attached) as attachment:
            yield attachment

    @contextlib.contextmanager
    def _fed(self, conmon: "_Conmon") -> Iterator[Callable[[], None]]:
        """Gives what starts to feed the program its stdin."""
        if self._streams.stdin is None:
            yield lambda: None
            return
        attachment = self._engine.attach_stdin(self.container, conmon.process)
        pump = StdinPump(attachment, self._streams.stdin, lambda: self._signal("KILL"))
        try:
            yield pump.start
        finally:
            self._over.set()  # its kill needn't be tried again
            pump.end()
        if pump.error is not None:
            raise unreadable(self._executor.stdin or "", pump.error)

    def _read(self, attachment: Attachment, index: int) -> None:
        try:
            read_outputs(
                attachment, self._stdout, self._stderr, lambda: self._report.written(index)
            )
        except OSError as error:
            raise unwritable(error) from error

    def _await_end(
        self, attachment: Attachment, conmon: "_Conmon", cgroup: Cgroup
    ) -> ContainerState:
        delay = _FIRST_POLL
        while True:
            cgroup.usage()  # as long as it is there
            # Before asking: conmon ends right after its container.
            died = conmon.ends_within(delay)
            state = self._state()
            if state.ended:
                return state
            if died:
                raise ContainerLost(
                    f"conmon of the container {self.container[:12]} died, and with it what the "
                    "container writes and its exit code"
                )
            if attachment.service_died:
                raise PodmanUnavailable(
                    "the node's Podman service went away while a container ran, and what "
                    "the container wrote since then is lost"
                )
            delay = min(2 * delay, _LAST_POLL)

    def _state(self) -> ContainerState:
        try:
            return self._engine.inspect(self.container)
        except ContainerRefused as error:  # also while it is being removed
            raise ContainerLost(
                f"the container {self.container[:12]} was removed while it ran, and not by raytes"
            ) from error

    def _never_began(self, refusal: ContainerRefused) -> Result:
        if _PROGRAM_MISSING.search(str(refusal)):
            exit_code, what = _NOT_FOUND, "is not in the image"
        elif _PROGRAM_REFUSED.search(str(refusal)):
            exit_code, what = _NOT_EXECUTABLE, "can't be executed"
        else:
            raise refusal
        index = self._began()
        program = shlex.quote(self._executor.command[0])
        self._stderr.write(f"{program} {what}: {refusal}\n".encode())
        self._report.executor_ended(index, exit_code)
        return Result(exit_code, memory_kill=False, seconds=0.0)

    def _kill(self) -> None:
        if self._sandbox.stop_grace == 0 or self._control.failure is not None:
            self._signal("KILL")
            return
        self._signal("TERM")
        threading.Thread(target=self._kill_after_grace, name="grace", daemon=True).start()

    def _kill_after_grace(self) -> None:
        if not self._over.wait(self._sandbox.stop_grace):
            self._signal("KILL")

    def _signal(self, name: str) -> None:
        delay = _FIRST_KILL
        for _ in range(_KILLS):
            try:
                self._engine.kill(self.container, name)
            except (PodmanUnavailable, ContainerRefused) as fault:
                refused = fault
            else:
                return
            if self._over.wait(delay):  # the thread that runs it has noticed, and says so
                return
            delay *= 2
        self._report.line(f"the container can't be sent SIG{name}: {refused}")


class _Conmon:
    """The process that watches over a container, as far as it can be seen from here."""

    def __init__(self, process: int | None) -> None:
        self.process = process
        """A pidfd; None: it can't be seen."""

    def ends_within(self, seconds: float) -> bool:
        """Wait for its end; whether it has ended. What can't be seen never has."""
        if self.process is None:
            time.sleep(seconds)
            return False
        return has_ended(self.process, seconds)


@contextlib.contextmanager
def _watched(pid: int) -> Iterator[_Conmon]:
    try:
        process = os.pidfd_open(pid)
    except OSError:  # in another namespace of processes
        yield _Conmon(None)
        return
    try:
        yield _Conmon(process)
    finally:
        os.close(process)


def specification(
    executor: TesExecutor,
    volumes: Iterable[str],
    sandbox: Sandbox,
    binds: Sequence[Bind],
    *,
    with_stdin: bool,
) -> dict[str, Any]:
    """The container of an executor, as Podman's SpecGenerator.

    Parameters:
        volumes: where it is to have an empty volume, or one with what its image has there, if
            nothing is mounted above it.
    """
    limits = sandbox.limits
    wanted: dict[str, Any] = {
        "name": sandbox.name,
        "image": executor.image,
        "command": executor.command,
        "env": executor.env or {},
        "labels": dict(sandbox.labels),
        "mounts": [_mount(bind) for bind in binds],
        # Podman would mount those too that lie in what is mounted here, and hide a part of it.
        "image_volume_mode": "ignore",
        "volumes": [_volume(path) for path in volumes if not _is_mounted(path, binds)],
        "stdin": with_stdin,
        "terminal": False,
        "no_new_privileges": True,
        "httpproxy": False,  # a proxy's URL may hold the service's credentials
        "systemd": "false",
        # Attached to; a log of Podman's own would fill the disk a second time.
        "log_configuration": {"driver": "none"},
        "shm_size": limits.shm,
        "devices": [{"path": f"{_GPU_KIND}={gpu}"} for gpu in sandbox.gpus],
    }
    if resource_limits := _resource_limits(limits):
        wanted["resource_limits"] = resource_limits
    if not sandbox.run_entrypoint:
        wanted["entrypoint"] = []
    if executor.workdir:
        wanted |= {"work_dir": executor.workdir, "create_working_dir": True}
    if sandbox.network != "default":
        wanted["netns"] = {"nsmode": sandbox.network}
    return wanted


def _resource_limits(limits: Limits) -> dict[str, Any]:
    wanted = {
        "cpu": {"quota": limits.cpu_cores * _CPU_PERIOD, "period": _CPU_PERIOD},
        "memory": {"limit": limits.memory, "swap": limits.memory},
        "pids": {"limit": limits.pids},
    }
    return {name: limit for name, limit in wanted.items() if name in limits.enforced}


def _metadata(index: int, usage: Usage) -> dict[str, str]:
    known: dict[str, str] = {}
    if usage.peak_memory is not None:
        known[f"executor_{index}_peak_memory_bytes"] = str(usage.peak_memory)
    if usage.cpu_seconds is not None:
        known[f"executor_{index}_cpu_seconds"] = f"{usage.cpu_seconds:.3f}"
    return known


def remove_container(engine: Engine, container: str) -> None:
    """Remove a container, whatever state it is in.

    Raises:
        PodmanUnavailable, ContainerRefused: Podman can't.
    """
    for attempt in range(_REMOVAL_ATTEMPTS):
        try:
            engine.remove(container)
            return
        except ContainerRefused:
            # It is ending by itself at this moment, and Podman stumbles over that.
            if attempt == _REMOVAL_ATTEMPTS - 1:
                raise
            time.sleep(_FIRST_POLL * 2 ** min(attempt, 6))


def _submounts(binds: Sequence[Bind]) -> Iterator[Bind]:
    """What is mounted inside a directory that may only be read: `ro` holds for its top alone."""
    taken = {bind.destination for bind in binds}
    for bind in binds:
        if bind.writable or not bind.source.is_dir():
            continue
        for point in mount_points_below(bind.source):
            inside = point.relative_to(bind.source)
            destination = posixpath.join(bind.destination, *inside.parts)
            if destination not in taken:
                yield Bind(point, destination, writable=False, exposed=bind.exposed)


def _mount(bind: Bind) -> dict[str, Any]:
    access = "rw" if bind.writable else "ro"
    return {
        "type": "bind",
        "source": str(bind.source),
        "destination": bind.destination,
        "options": ["rbind", "rprivate", access],
    }


def _is_mounted(path: str, binds: Sequence[Bind]) -> bool:
    return any(is_below(path, bind.destination) for bind in binds)


def _volume(path: str) -> dict[str, Any]:
    """An anonymous volume, as Podman makes it for an image."""
    return {"Dest": path, "Options": ["rprivate", "rw", "nodev", "exec"]}
