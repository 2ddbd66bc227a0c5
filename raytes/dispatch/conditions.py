"""What the living nodes say of themselves, as far as they have been looked at."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final

from raytes.runner.condition import Condition

# So often a node with runners is looked at again. One without is let alone: a look would keep
# the autoscaler from taking an idle node away.
_AGAIN_S: Final = 300.0


class Conditions:
    """Looks at each node when it is first seen, and now and then while it has runners."""

    def __init__(self, look: Callable[[str], Awaitable[Condition]]) -> None:
        """`look` is given a node's id; it never raises."""
        self._look = look
        self._found: dict[str, Condition] = {}
        self._looked: dict[str, float] = {}  # when the last look began
        self._looks: dict[str, asyncio.Task[None]] = {}

    def see(self, living: Iterable[str], at_work: Iterable[str], due: Collection[str] = ()) -> None:
        """Begin to look where it is time to, and forget the nodes that are gone.

        Parameters:
            living: the ids of all nodes that could run tasks.
            at_work: of those that have runners.
            due: of those to be looked at now for another reason.
        """
        nodes, busy = set(living), set(at_work)
        for gone in self._looked.keys() - nodes:
            del self._looked[gone]
            self._found.pop(gone, None)
        now = time.monotonic()
        for node in nodes - self._looks.keys():
            looked = self._looked.get(node)
            again = looked is None or (node in busy and now - looked >= _AGAIN_S)
            if again or node in due:
                self._looked[node] = now
                self._looks[node] = asyncio.create_task(self._learn(node))

    def of(self, node: str) -> Condition | None:
        """The node's condition when it was last looked at; None: it hasn't been yet."""
        return self._found.get(node)

    async def first(self, patience_s: float) -> None:
        """Wait, for so long at most, until each node that was seen has been looked at."""
        pending = [look for node, look in self._looks.items() if node not in self._found]
        if pending:
            await asyncio.wait(pending, timeout=patience_s)

    async def _learn(self, node: str) -> None:
        try:
            found = await self._look(node)
            if node in self._looked:
                self._found[node] = found
        finally:
            del self._looks[node]
