"""Files that wait on a file server under another name, until they're renamed into place."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from raytes.storage.faults import Fault, Missing
from raytes.storage.objects import Object

S = TypeVar("S")
R = TypeVar("R")


class Server(Protocol):
    """What a file server does with them."""

    async def place(self, staged: Object, path: str) -> None:
        """Has the file `staged` appear at `path`, in place of what was there."""

    async def remove(self, path: str) -> None:
        """Removes a file."""


@dataclass(frozen=True, slots=True)
class Aside:
    """A file that is on a server under another name."""

    server: Server
    staged: Object
    path: str

    async def commit(self) -> None:
        """As `Staged.commit`."""
        await self.server.place(self.staged, self.path)

    async def discard(self) -> None:
        """As `Staged.discard`."""
        await self.server.remove(self.staged.path)


async def rename_into_place(
    staged: Object,
    do: Callable[[Callable[[S], R]], Awaitable[object]],
    rename: Callable[[S], R],
    find: Callable[[], Awaitable[Object | None]],
) -> None:
    """Rename the file `staged`, and know it at its place if it was renamed and the answer was lost.

    Parameters:
        do: does something with a connection, after a passing fault once more.
        rename: raises `Missing` where the file isn't.
        find: what is at its place.

    Raises:
        Fault: it is neither where it was staged nor at its place.
    """
    tries = 0

    def attempt(connection: S) -> R:
        nonlocal tries
        tries += 1
        return rename(connection)

    try:
        await do(attempt)
    except Missing:
        found = await find() if tries > 1 else None
        told = staged.version and found and (found.size, found.version)
        if told != (staged.size, staged.version):
            raise Fault("what was staged for it is gone", elsewhere=True) from None
