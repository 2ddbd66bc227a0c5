"""Why nodes are closed to tasks, and when those are looked at again: pure policy.

A node is closed while it can't run tasks, after two attempts running there that failed by its
own fault, and while it is drained. A registry or a store of objects that is down closes none:
every node would be, in turn. Whoever drives this tells what was found on a node and how the
attempts there ended.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from raytes.dispatch.pauses import growing_pause

FAILED = 2
"""So many attempts running that failed by a node's own fault suspend it.

Those that one incident has ended count each: what follows is a look, which takes seconds. If they
counted once, a node that is ill would be given as many tasks again.
"""

AGAIN_S = 15.0
"""So often a node that is ill is looked at while tasks wait."""

AGAIN_IDLE_S = 600.0
"""So often while none does: a look keeps the autoscaler from taking an idle node away."""

_LONGEST_PAUSE_S = 300.0


@dataclass(slots=True)
class _Record:
    fault: str = ""  # why it can't run tasks, as the last look found
    looked: float = 0.0  # when that was
    failed: int = 0  # attempts running, by its own fault
    suspended: float | None = None  # when it may be looked at again; None: it isn't suspended
    suspensions: int = 0  # since an attempt there went well


class Closures:
    """Which nodes are closed to tasks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._records: dict[str, _Record] = {}
        self._drained: set[str] = set()

    def why(self, node: str) -> str:
        """Why a node is closed, in a person's words; empty: it isn't."""
        record = self._records.get(node, _Record())
        if record.fault:
            return record.fault
        if record.suspended is not None:
            return f"{FAILED} attempts there failed by the node's own fault"
        return "it is being drained" if node in self._drained else ""

    def looked(self, node: str, fault: str) -> None:
        """A node was looked at, and can't run tasks for that reason, or can."""
        record = self._records.setdefault(node, _Record())
        record.fault, record.looked = fault, self._clock()
        if not fault:
            record.suspended, record.failed = None, 0

    def went_well(self, node: str) -> None:
        """An attempt ended as it should, or by its user's fault."""
        if record := self._records.get(node):
            record.failed = record.suspensions = 0

    def failed(self, node: str) -> bool:
        """An attempt failed by the node's own fault; whether that suspends it.

        A node that passes its looks and fails its tasks is suspended longer each time.
        """
        record = self._records.setdefault(node, _Record())
        record.failed += 1
        if record.failed < FAILED or record.suspended is not None:
            return False
        again = record.suspensions
        pause = growing_pause(again, AGAIN_S, _LONGEST_PAUSE_S) if again else 0.0
        record.suspended = self._clock() + pause
        record.suspensions += 1
        return True

    def drain(self, node: str) -> None:
        """A node is to be empty."""
        self._drained.add(node)

    def undrain(self, node: str) -> None:
        """A node may have tasks again."""
        self._drained.discard(node)

    def due(self, *, waiting: bool) -> set[str]:
        """The nodes to look at now; `waiting`: there are tasks that could use them."""
        now, again = self._clock(), AGAIN_S if waiting else AGAIN_IDLE_S
        return {
            node
            for node, record in self._records.items()
            if (record.fault and now - record.looked >= again)
            or (record.suspended is not None and now >= record.suspended)
        }

    def forget_others(self, living: Collection[str]) -> None:
        """Forget the nodes that are gone."""
        self._records = {node: one for node, one in self._records.items() if node in living}
