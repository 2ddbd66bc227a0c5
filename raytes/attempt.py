"""What the store and a runner say to each other about one attempt at a task.

The store hands a runner an `Assignment`; the runner answers with `Update`s, each a
snapshot of what has changed. An update is numbered, so that applying it twice, late or
out of order does no harm, and it names its attempt, so that a runner which was given up
for dead can't speak for a later one.
"""

from dataclasses import dataclass, field

from raytes.models import TesFileType, TesState, TesTask, TesTaskLog


@dataclass(frozen=True, slots=True)
class Receipt:
    """What takes back something that an attempt has staged, though its runner may be gone."""

    url: str  # what it was to become; of a file:// output, the directory that it lies in
    token: str  # the other store's own name for it


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt at one task, as the store gives it to a runner."""

    task_id: str
    attempt: int  # 1 for the first
    task: TesTask  # as it was submitted, `content` of the inputs included
    queue_seconds: float = 0.0  # that it waited: since it was created, or its last attempt ended
    receipts: tuple[Receipt, ...] = ()  # of earlier attempts, which may still try to use them


@dataclass(frozen=True, slots=True)
class Tails:
    """The last bytes of an executor's two streams, decoded."""

    stdout: str = ""
    stderr: str = ""


@dataclass(frozen=True, slots=True)
class Update:
    """A snapshot of an attempt: only what is set replaces what the store has.

    `log` is the whole TaskLog but for what has a place of its own here: the executors'
    stdout and stderr (`tails`, by index of the executor) and `system_logs`, of which an
    update carries only the new lines, and in `unconfirmed` those of earlier updates that the
    store isn't known to have.
    """

    task_id: str
    attempt: int
    seq: int  # 1, 2, 3 … within the attempt; the store drops what isn't newer than the last
    state: TesState | None = None
    log: TesTaskLog | None = None
    tails: dict[int, Tails] = field(default_factory=dict)
    system_logs: tuple[str, ...] = ()
    unconfirmed: tuple[tuple[int, str], ...] = ()  # each with the seq that it was first sent with
    # FILE or DIRECTORY as found on disk, by index of the input or output.
    input_types: dict[int, TesFileType] = field(default_factory=dict)
    output_types: dict[int, TesFileType] = field(default_factory=dict)
    # Of the last update only: another attempt may succeed where this one failed.
    retry: bool = False
    # Of the last update only: the node was at fault, and may fail other tasks too.
    of_node: bool = False
