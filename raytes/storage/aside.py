"""Files that wait on a file server under another name, until they're renamed into place."""

from dataclasses import dataclass
from typing import Protocol


class Server(Protocol):
    """What a file server does with them."""

    async def place(self, temporary: str, path: str) -> None:
        """Has the file `temporary` appear at `path`, in place of what was there."""

    async def remove(self, temporary: str) -> None:
        """Removes a file."""


@dataclass(frozen=True, slots=True)
class Aside:
    """A file that is on a server under another name."""

    server: Server
    temporary: str
    path: str

    async def commit(self) -> None:
        """As `Staged.commit`."""
        await self.server.place(self.temporary, self.path)

    async def discard(self) -> None:
        """As `Staged.discard`."""
        await self.server.remove(self.temporary)
