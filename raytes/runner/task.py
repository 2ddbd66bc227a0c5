"""The life of a task on a node, from its inputs to its outputs."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from raytes.attempt import Assignment, Receipt, Update
from raytes.config import GB, Settings
from raytes.errors import (
    Canceled,
    ContainerLost,
    ContainerRefused,
    DiskFull,
    MissingOutput,
    RaytesError,
    SystemFault,
)
from raytes.failures import FailureReason
from raytes.models import TesExecutor, TesState, TesTask
from raytes.parameters import choices_of
from raytes.runner.allowance import is_over, within_disk, within_time
from raytes.runner.beneath import Namespace
from raytes.runner.condition import is_low
from raytes.runner.control import Control
from raytes.runner.enforcement import Enforcement
from raytes.runner.executor import Execution, Limits, Result, Sandbox, remove_container
from raytes.runner.fence import fence_off_earlier
from raytes.runner.image_files import ImageFiles, InImageOutputs, make_volumes
from raytes.runner.images import require_image
from raytes.runner.inputs import (
    StagedIn,
    bytes_of_inputs,
    find_originals,
    make_directories,
    make_workdir,
    stage_in,
)
from raytes.runner.mounts import Bind, MountPlan, Original, plan_mounts
from raytes.runner.outputs import find_output
from raytes.runner.owner import lock_of, owned_directory
from raytes.runner.podman import Engine, Image
from raytes.runner.report import Report, Send
from raytes.runner.service import PodmanService
from raytes.runner.stage_out import StageOut, StoredOutput
from raytes.runner.stdio import open_streams, written_streams
from raytes.runner.sweep import instance_directory, remove_tree, unshare
from raytes.storage import Authority, Storage
from raytes.storage.progress import in_words

_SIGNAL_BASE: Final = 128  # an exit code above it is a signal's number on top


@dataclass(frozen=True, slots=True)
class Node:
    """What the attempts on a node have in common."""

    name: str
    settings: Settings
    instance: str
    podman: PodmanService
    storage: Storage
    image_files: ImageFiles
    count_inputs: Callable[[StagedIn], None] = lambda staged: None
    gpus: tuple[str, ...] = ()  # of the runner: the ids of those that Ray has assigned to it


class ExecutorFailed(RaytesError):
    """An executor has ended in an error that isn't to be ignored, or had to be ended."""

    def __init__(self, message: str, failure_reason: FailureReason = "executor_error") -> None:
        super().__init__(message)
        self.failure_reason = failure_reason


Authorize = Callable[[str, int, Sequence[Receipt]], bool]
"""Asks the store, for as long as it takes, whether an attempt (a task's id and a number) may
store its outputs; the store keeps the receipts before it says so."""


def run_attempt(
    assignment: Assignment, node: Node, send: Send, authorize: Authorize, control: Control
) -> Update:
    """Run one attempt at a task, from its inputs to its outputs, and leave nothing behind.

    What happens is said to `send` while it does; the last update is returned. It has state
    QUEUED where the attempt was stopped with the service and the task is to be run again.
    `authorize` is asked before an output appears.
    """
    report = Report(assignment.task_id, assignment.attempt, send)
    report.metadata(
        node=node.name,
        attempt=str(assignment.attempt),
        queue_seconds=f"{assignment.queue_seconds:.3f}",
    )
    report.line(f"attempt {assignment.attempt} begins on node {node.name}")
    try:
        with _scratch(assignment, node, report) as scratch:
            _Attempt(assignment, node, report, authorize, control, scratch).run()
    except ExecutorFailed as failure:
        return _failed(report, failure, TesState.EXECUTOR_ERROR)
    except Canceled:
        if control.canceled:
            report.line("the task was canceled")
            return report.last(TesState.CANCELED)
        report.metadata(failure_reason="service_stopped")
        report.line("the service or this node is being stopped; the task will be run again")
        return report.last(TesState.QUEUED, retry=True)
    except SystemFault as fault:
        return _failed(
            report, fault, TesState.SYSTEM_ERROR, retry=fault.transient, of_node=fault.of_node
        )
    except Exception as error:
        report.metadata(failure_reason="internal_error")
        report.line(f"an internal error of the runner: {error!r}")
        # What the kernel refuses here are the attempt's own files, most of all on a full disk.
        of_node = isinstance(error, OSError)
        return report.last(TesState.SYSTEM_ERROR, retry=True, of_node=of_node)
    report.line("the task is complete")
    return report.last(TesState.COMPLETE)


class _Attempt:
    def __init__(
        self,
        assignment: Assignment,
        node: Node,
        report: Report,
        authorize: Authorize,
        control: Control,
        scratch: Path,
    ) -> None:
        self._assignment = assignment
        self._task: TesTask = assignment.task
        self._node = node
        self._report = report
        self._control = control
        self._scratch = scratch
        self._authorize = authorize
        self._authority = Authority(assignment.task_id, assignment.attempt, self._ask)
        self._choices = choices_of(self._task.resources, node.settings)
        self._engine: Engine = node.podman.engine()
        self._enforcement: Enforcement = node.podman.enforcement()
        self._execution: Execution | None = None  # the one that runs
        self._remover = ThreadPoolExecutor(1, "remove")
        self._removal: Future[None] | None = None  # of the last container, and so of all

    def run(self) -> None:
        """The steps of a task."""
        with self._remover:
            self._run()

    def _run(self) -> None:
        self._look_at_node()
        fence_off_earlier(self._assignment, self._node.storage, self._control.stop)
        with self._timed("pull"):
            images = self._pull_images()
        with self._timed("stage_in"), self._within_disk(self._inputs_too_large()):
            plan = self._stage_in(images)
        with (
            self._timed("run"),
            within_time(self._choices.max_runtime, self._control, self._too_long()),
            self._within_disk(self._too_much_written()),
        ):
            visible, failure = self._run_executors(plan, images)
        with self._timed("stage_out"):
            try:
                self._stage_out(visible, failure)
            except SystemFault as fault:
                if failure is None:
                    raise
                self._report.line(str(fault))
        if failure is not None:
            raise failure

    def _look_at_node(self) -> None:
        """Say what the node can't do, and refuse a task for which it has no room."""
        for shortcoming in self._enforcement.shortcomings:
            self._report.line(f"warning: {shortcoming}")
        usage = shutil.disk_usage(self._scratch)
        if usage.free < self._choices.disk:
            full = DiskFull(
                f"the task asks for {self._choices.disk / GB:g} GB of disk, and node "
                f"{self._node.name} has {usage.free / GB:.1f} GB left at "
                f"{self._node.settings.scratch}; declare the Ray resource disk_gb on the nodes, "
                "and tasks go where there is room"
            )
            full.of_node = is_low(usage.free, usage.total)  # else it is the task that asks for much
            raise full

    def _pull_images(self) -> dict[str, Image]:
        images: dict[str, Image] = {}
        policy = self._node.settings.pull_policy
        locks = instance_directory(self._node.settings, self._node.instance)
        for name in dict.fromkeys(executor.image for executor in self._task.executors):
            self._control.check()
            images[name] = require_image(
                self._engine, name, policy, locks, self._control, self._report.line
            )
        digests = " ".join(f"{name}@{image.digest}" for name, image in images.items())
        self._report.metadata(images=digests)
        return images

    def _stage_in(self, images: Mapping[str, Image]) -> MountPlan:
        originals = find_originals(self._task, self._node.storage, self._node.settings)
        plan = self._plan(images, originals)
        staged = stage_in(
            self._task, plan, originals, self._node.storage, self._control.stop, self._report
        )
        make_volumes(images.values(), plan)
        self._report.input_types(staged.types)
        self._node.count_inputs(staged)
        if staged.cache:
            self._report.metadata(cache=staged.cache)
        self._control.check()
        if is_over(self._choices.disk, self._occupied()):
            raise self._inputs_too_large()
        size = bytes_of_inputs(plan, originals)
        self._report.metadata(bytes_in=str(size))
        if staged.types:
            self._report.line(f"{_count(len(staged.types), 'input')} staged in, {in_words(size)}")
        return plan

    def _plan(self, images: Mapping[str, Image], originals: Mapping[int, Original]) -> MountPlan:
        """Plan the mounts, and fill those that would hide files of an image with these."""
        plan = plan_mounts(self._task, self._scratch, originals)
        make_directories(plan)
        crowded: set[str] = set()
        # The first executor's image last: its files stay where several have the same.
        for image in reversed(list(images.values())):
            crowded |= self._node.image_files.copy_up(
                self._engine, image, plan.parents, self._labels("image")
            )
        if not crowded:
            return plan
        remove_tree(self._scratch / "mounts")
        plan = plan_mounts(self._task, self._scratch, originals, crowded)
        make_directories(plan)
        for image in reversed(list(images.values())):
            self._node.image_files.copy_up(self._engine, image, plan.parents, self._labels("image"))
        return plan

    def _run_executors(
        self, plan: MountPlan, images: Mapping[str, Image]
    ) -> tuple[list[Bind], RaytesError | None]:
        """Run the executors; returns what is to be seen of the containers' paths on the node."""
        outputs = [
            output for i, output in enumerate(self._task.outputs or []) if i in plan.in_image
        ]
        in_image = InImageOutputs(self._engine, outputs, self._scratch, images.values())
        streams: list[Bind] = []
        for number, executor in enumerate(self._task.executors):
            if (failure := self._control.failure) is not None:
                break  # what the earlier ones have made is stored all the same
            self._control.check()
            if executor.workdir:
                make_workdir(plan, executor.workdir)
            written = written_streams(executor, plan)
            visible = [*plan.binds, *streams, *in_image.binds]
            with open_streams(executor, plan, visible) as files:
                # What this one is about to write is mounted only in those that follow.
                paths = {bind.destination for bind in written}
                others = [bind for bind in streams if bind.destination not in paths]
                execution = Execution(
                    self._engine, executor, in_image.volumes(images[executor.image]),
                    self._sandbox(number), [*plan.binds, *others], files,
                    self._report, self._control, self._await_removal,
                )  # fmt: skip
                failure = self._run_container(number, execution, in_image)
            streams = [*others, *written]
            if failure is not None:
                break
        else:
            failure = None
        self._await_removal()
        return [*plan.binds, *streams, *in_image.binds], failure

    def _run_container(
        self, number: int, execution: Execution, in_image: InImageOutputs
    ) -> RaytesError | None:
        """Run an executor and remove its container; returns what ends the task, if that does."""
        try:
            in_image.put(execution.container)
            failure = self._outcome(number, execution)
            in_image.take(execution.container, is_cleaned_up=execution.is_cleaned_up)
        except ContainerRefused as refusal:
            # Podman's status for it depends on how far it had come when it noticed.
            if "attach socket" in str(refusal):
                raise ContainerLost(
                    f"what watches over the container {execution.container[:12]} ended before the "
                    "container began, and not by raytes"
                ) from refusal
            if "no such container" not in str(refusal):
                raise
            raise ContainerLost(
                f"the container {execution.container[:12]} was removed, and not by raytes"
            ) from refusal
        finally:
            self._execution = None
            self._begin_to_remove(execution.container)
        return failure

    def _begin_to_remove(self, container: str) -> None:
        """Remove a container while the next one is created, which together takes most of a short
        one's life. What it has taken of the disk is free again before the next program begins.
        """
        try:
            self._removal = self._remover.submit(self._remove, container)
        except RuntimeError:  # no more threads can be started
            self._remove(container)

    def _await_removal(self) -> None:
        if self._removal is not None:
            self._removal.result()

    def _remove(self, container: str) -> None:
        """Remove a container; what can't be removed changes nothing about what it has done."""
        try:
            # By a service that has been started again, if it was this that failed.
            remove_container(self._node.podman.engine(), container)
        except Exception as error:
            why = error if isinstance(error, SystemFault) else repr(error)
            self._report.line(
                f"the container {container[:12]} on node {self._node.name} can't be removed now "
                f"({why}); that is tried again"
            )

    def _outcome(self, number: int, execution: Execution) -> RaytesError | None:
        self._execution = execution
        try:
            result = execution.run()
        except Canceled:
            if (failure := self._control.failure) is None:
                raise
            return failure
        failed = self._judge(number, self._task.executors[number], result)
        if failed is None and is_over(self._choices.disk, self._occupied()):
            return self._too_much_written()
        return failed

    def _judge(self, number: int, executor: TesExecutor, result: Result) -> ExecutorFailed | None:
        """What the end of an executor means for the task."""
        words = (
            f"executor {number} ended with exit code {result.exit_code} "
            f"after {result.seconds:.1f} seconds"
        )
        if result.exit_code > _SIGNAL_BASE:
            words += _signal_words(result.exit_code - _SIGNAL_BASE)
        if result.exit_code and executor.ignore_error:
            words += ", which is ignored (ignore_error)"
        if result.memory_kill:
            words += (
                f": a process of it was killed, because it needed more memory than the "
                f"{self._choices.memory / GB:g} GB that the task is allowed; ask for more with "
                "resources.ram_gb"
            )
        if result.exit_code == 0 or executor.ignore_error:
            self._report.line(words)
            return None
        # With another exit code it was a process among others, whose end the program survived.
        if result.memory_kill and result.exit_code == _SIGNAL_BASE + signal.SIGKILL:
            return ExecutorFailed(words, "out_of_memory")
        return ExecutorFailed(words)

    def _stage_out(self, visible: Sequence[Bind], failure: RaytesError | None) -> None:
        """Stage all outputs, then have them appear, if this attempt still counts by then."""
        self._control.check()
        _make_readable(self._scratch)
        storage, stop = self._node.storage, self._control.stop
        with StageOut(storage, self._authority, self._scratch, stop, self._report) as stage_out:
            faults = self._find_outputs(stage_out, Namespace(visible), failure)
            stage_out.stage()
            try:
                stage_out.commit()
            finally:
                size = 0  # bytes
                for stored in stage_out.stored:
                    self._report.output(stored.index, stored.type, stored.files)
                    size += self._say_stored(stored)
                self._report.metadata(bytes_out=str(size))
        faults += stage_out.faults
        for fault in faults[1:]:
            self._report.line(str(fault))
        if faults:
            raise faults[0]

    def _find_outputs(
        self, stage_out: StageOut, namespace: Namespace, failure: RaytesError | None
    ) -> list[SystemFault]:
        """Find what there is to be stored; returns what ends the task, if something isn't."""
        faults: list[SystemFault] = []
        for i, output in enumerate(self._task.outputs or []):
            self._control.check()
            try:
                found = find_output(output, namespace, self._report.line, self._control.check)
                if found.entries:
                    stage_out.add(i, output, found)
                else:
                    self._report.line(
                        f"the output {output.path} matches no file; nothing is stored"
                    )
            except MissingOutput as missing:
                if failure is None and self._choices.missing_outputs == "error":
                    faults.append(missing)
                else:
                    self._report.line(str(missing))
            except SystemFault as fault:
                faults.append(fault)
        return faults

    def _ask(self, receipts: Sequence[Receipt]) -> None:
        """Raise Canceled unless this attempt may store its outputs."""
        assignment = self._assignment
        if not self._authorize(assignment.task_id, assignment.attempt, receipts):
            # Canceled, or given up for lost: then the store won't even hear how this one ends.
            self._control.cancel()
        self._control.check()

    def _say_stored(self, stored: StoredOutput) -> int:
        size = sum(int(file.size_bytes) for file in stored.files)
        path = (self._task.outputs or [])[stored.index].path
        files = _count(len(stored.files), "file")
        self._report.line(f"the output {path} is stored: {files}, {in_words(size)}")
        return size

    def _sandbox(self, number: int) -> Sandbox:
        settings = self._node.settings
        return Sandbox(
            name=f"raytes-{self._assignment.task_id}-{self._assignment.attempt}-{number}",
            labels=self._labels(str(number)),
            limits=Limits(
                cpu_cores=self._choices.cpus,
                memory=self._choices.memory,
                pids=settings.pids_limit,
                shm=round(settings.shm_size_gb * GB),
                enforced=self._enforcement.controllers,
            ),
            network=self._choices.network,
            gpus=self._node.gpus,
            run_entrypoint=self._choices.entrypoint == "image",
            stop_grace=settings.stop_grace,
            log_tail_bytes=settings.log_tail_bytes,
        )

    def _within_disk(self, failure: RaytesError) -> contextlib.AbstractContextManager[None]:
        return within_disk(self._choices.disk, self._occupied, self._control, failure)

    def _occupied(self) -> list[Path]:
        """The directories on the node that the task fills."""
        execution = self._execution  # which another thread may take away at any moment
        layer = execution.layer if execution else None
        return [self._scratch, *([layer] if layer else [])]

    def _inputs_too_large(self) -> RaytesError:
        failure = DiskFull(f"the inputs take more than {self._allowed_disk}")
        failure.transient = False
        return failure

    def _too_much_written(self) -> RaytesError:
        return ExecutorFailed(f"the task has written more than {self._allowed_disk}", "disk_full")

    @property
    def _allowed_disk(self) -> str:
        return (
            f"the {self._choices.disk / GB:g} GB of disk that the task is allowed; ask for more "
            "with resources.disk_gb"
        )

    def _too_long(self) -> RaytesError:
        return ExecutorFailed(
            f"the executors ran for more than the {self._choices.max_runtime or 0:g} seconds that "
            "the task is allowed (max_runtime)",
            "timeout",
        )

    def _labels(self, executor: str) -> dict[str, str]:
        return {
            "raytes.instance": self._node.instance,
            "raytes.service": self._node.settings.name,
            "raytes.task": self._assignment.task_id,
            "raytes.attempt": str(self._assignment.attempt),
            "raytes.executor": executor,
            "raytes.owner": str(lock_of(self._scratch)),
        }

    @contextlib.contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self._report.metadata(**{f"{step}_seconds": f"{time.monotonic() - start:.3f}"})


@contextlib.contextmanager
def _scratch(assignment: Assignment, node: Node, report: Report) -> Iterator[Path]:
    """The attempt's own directory; gone after this block, unless it fails and is to be kept.

    What can't be removed (as where a server still has a file of it open) changes nothing about
    how the attempt ended: a sweep finds it.
    """
    # Without links, as everything in it is looked up.
    parent = instance_directory(node.settings, node.instance).resolve()
    with owned_directory(parent, f"{assignment.task_id}-{assignment.attempt}") as directory:
        try:
            yield directory
        except (ExecutorFailed, SystemFault):
            if node.settings.keep_scratch:
                # Where no sweep finds it.
                kept = node.settings.scratch / "kept" / directory.name
                kept.parent.mkdir(exist_ok=True, mode=0o700)
                report.line(f"what it wrote is kept on node {node.name}: {directory.rename(kept)}")
            raise
        finally:
            try:
                remove_tree(directory)
            except OSError as error:
                report.line(
                    f"{directory} on node {node.name} can't be removed now ({error}); that is "
                    "tried again"
                )


def _failed(
    report: Report,
    error: RaytesError,
    state: TesState,
    *,
    retry: bool = False,
    of_node: bool = False,
) -> Update:
    report.metadata(failure_reason=error.failure_reason)
    report.line(str(error))
    return report.last(state, retry=retry, of_node=of_node)


def _signal_words(number: int) -> str:
    with contextlib.suppress(ValueError):
        return f" (killed by signal {number}, {signal.Signals(number).name})"
    return ""


def _make_readable(directory: Path) -> None:
    """Rootless, what an image's users made belongs to subordinate ids: make it the service's."""
    if os.geteuid() != 0 and not _is_all_ours(directory):
        unshare("chown", "--recursive", "--no-dereference", "0:0", "--", str(directory))
        unshare("chmod", "--recursive", "u+rwX", "--", str(directory))


def _is_all_ours(directory: Path) -> bool:
    try:
        return all(map(_is_ours, _everything_in(directory)))
    except (OSError, RecursionError):  # it can't be told: names too long, or too deep
        return False


def _everything_in(directory: Path) -> Iterator[Path]:
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            yield Path(parent) / name


def _is_ours(path: Path) -> bool:
    return path.lstat().st_uid == os.geteuid() and os.access(path, os.R_OK, follow_symlinks=False)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"
