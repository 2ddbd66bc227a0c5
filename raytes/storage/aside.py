"""Files that wait on a file server under another name, until they're renamed into place."""

from dataclasses import dataclass
from typing import Protocol

from raytes.storage.faults import Fault
from raytes.storage.objects import Object


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


def check_in_place(staged: Object, found: Object | None) -> None:
    """Raises a `Fault` unless `found`, at the place of the file `staged`, is that file itself: so
    it is where it was renamed, and the answer was lost.
    """
    if staged.version and found and (found.size, found.version) == (staged.size, staged.version):
        return
    raise Fault("what was staged for it is gone", elsewhere=True)
