"""What raytes asks of a store of objects, and the fsspec implementations that answer it."""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from raytes.storage.faults import Fault
from raytes.storage.progress import Transfer


@dataclass(frozen=True, slots=True)
class Object:
    """One object in a store."""

    path: str  # as the store has it; a directory marker ends with a slash
    size: int  # bytes
    version: str | None  # changes when the bytes do; None: the store doesn't tell


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A file on its way into a store."""

    source: Path
    path: str  # where it will be
    aside: str  # the directory, not there yet, for what waits for its commit; for file servers
    transfer: Transfer
    announce: Callable[[str], Awaitable[None]]
    """Has a token kept with which `ObjectStore.revoke` takes back what is staged."""
    ask: Callable[[], Awaitable[None]]
    """Asks whether the file may still be stored, for a store that can't take it back."""
    seen: str = ""
    """The version of what was there when it was looked for; empty: nothing, or nobody looked."""


class Staged(Protocol):
    """A file that is in its store and not to be seen there."""

    async def commit(self) -> None:
        """Has it appear, whole or not at all."""

    async def discard(self) -> None:
        """Has it away."""


class ObjectStore(Protocol):
    """A flat store; `path` is what `Location.path` holds.

    Each method tries again what fails for a passing cause, and raises a `Fault` for the rest.
    """

    async def find(self, path: str) -> Object | None:
        """The object at exactly `path`."""

    async def find_below(self, path: str) -> list[Object]:
        """All objects below the directory `path`, at any depth, markers included."""

    async def get(self, found: Object, destination: Path, transfer: Transfer) -> None:
        """Writes the object's bytes, all of them and of this version, to `destination`."""

    async def stage(self, file: Outgoing) -> Staged:
        """Has the bytes of a file in the store, as near to its path as they can be unseen."""

    async def revoke(self, path: str, token: str) -> None:
        """Takes back what was staged for `path`, so that it can't be committed any more."""

    async def tidy(self, aside: str) -> None:
        """Removes the directory in which files waited for their commit, if none waits now."""

    async def versions_below(self, path: str, most: int) -> Mapping[str, str]:
        """The versions of objects below a directory by their paths, of about so many at most;
        of none if it makes no difference to what is written there."""

    async def mark(self, path: str) -> None:
        """Leaves a sign that the directory `path` exists though it may hold nothing."""


@dataclass(frozen=True, slots=True)
class Unsent:
    """A file for which its store has no other place than its own: it is sent at its commit."""

    send: Callable[[], Awaitable[None]]

    async def commit(self) -> None:
        await self.send()

    async def discard(self) -> None:
        """Nothing is there."""


class UnstagedWrites:
    """A store, in part: nothing is in it before its commit, so nothing can be taken back."""

    async def stage(self, file: Outgoing) -> Staged:
        return Unsent(lambda: self._send(file))

    async def revoke(self, path: str, token: str) -> None:
        """Nothing is there."""

    async def tidy(self, aside: str) -> None:
        """Nothing is there."""

    async def versions_below(self, path: str, most: int) -> Mapping[str, str]:
        return {}

    async def _send(self, file: Outgoing) -> None:
        raise NotImplementedError


def check_size(found: Object, destination: Path) -> None:
    """Raises a passing `Fault` unless all bytes of the object are there."""
    received = os.stat(destination).st_size
    if received != found.size:
        raise Fault(f"{received} bytes came of {found.size}", passing=True)
