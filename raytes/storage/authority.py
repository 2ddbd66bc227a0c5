"""In whose name outputs are stored, and whether that name still counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raytes.attempt import Receipt


@dataclass(frozen=True, slots=True)
class Authority:
    """An attempt at a task, as those see it who store its outputs."""

    task_id: str
    attempt: int
    ask: Callable[[Sequence[Receipt]], None]
    """Asks whether the attempt still counts. The receipts are kept for the next one first.

    Raises Canceled if it doesn't: nothing more of it may be stored."""

    @property
    def aside(self) -> str:
        """The name of the directories in which its files wait for their commit."""
        return aside_of(self.task_id, self.attempt)


def aside_of(task_id: str, attempt: int) -> str:
    """The name under which any attempt finds what another one has put aside."""
    return f".raytes-{task_id}-{attempt}"
