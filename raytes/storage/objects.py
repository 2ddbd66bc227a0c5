"""What raytes asks of a store of objects, and the fsspec implementations that answer it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from raytes.storage import faults
from raytes.storage.faults import Fault, Missing
from raytes.storage.retry import retrying


@dataclass(frozen=True, slots=True)
class Object:
    """One object in a store."""

    path: str  # as the store has it; a directory marker ends with a slash
    size: int  # bytes
    version: str | None  # changes when the bytes do; None: the store doesn't tell


class ObjectStore(Protocol):
    """A flat store; `path` is what `Location.path` holds.

    Each method tries again what fails for a passing cause, and raises a `Fault` for the rest.
    """

    async def find(self, path: str) -> Object | None:
        """The object at exactly `path`."""

    async def find_below(self, path: str) -> list[Object]:
        """All objects below the directory `path`, at any depth, markers included."""

    async def get(self, found: Object, destination: Path) -> None:
        """Writes the object's bytes, all of them and of this version, to `destination`."""

    async def put(self, source: Path, path: str) -> None:
        """Has the bytes of `source` at `path`, whole or not at all."""

    async def mark(self, path: str) -> None:
        """Leaves a sign that the directory `path` exists though it may hold nothing."""


class FsspecStore:
    """A store by its fsspec implementation's own coroutines, one object at a time.

    The calls that take many paths (`get`, `put`) are avoided: they expand `*` and `[`,
    which are ordinary characters of a key.
    """

    def __init__(self, filesystem: Any) -> None:
        self._filesystem = filesystem

    def fault_of(self, error: Exception) -> Fault:
        """The fault behind an exception that the implementation raised."""
        return faults.fault_of(error)

    async def find(self, path: str) -> Object | None:
        try:
            info = await retrying(lambda: self._filesystem._info(path), self.fault_of)
        except Missing:
            return None
        return _object(info) if info["type"] == "file" and info["name"] == path else None

    async def find_below(self, path: str) -> list[Object]:
        directory = path.rstrip("/")
        try:
            found = await retrying(
                lambda: self._filesystem._find(directory, detail=True), self.fault_of
            )
        except Missing:
            return []
        return [_object(info) for name, info in found.items() if name.startswith(f"{directory}/")]

    async def get(self, found: Object, destination: Path) -> None:
        async def attempt() -> None:
            await self._filesystem._get_file(found.path, str(destination))
            check_size(found, destination)

        await retrying(attempt, self.fault_of)

    async def put(self, source: Path, path: str) -> None:
        await retrying(lambda: self._filesystem._put_file(str(source), path), self.fault_of)

    async def mark(self, path: str) -> None:
        marker = f"{path.rstrip('/')}/"
        await retrying(lambda: self._filesystem._pipe_file(marker, b""), self.fault_of)


def check_size(found: Object, destination: Path) -> None:
    """Raises a passing `Fault` unless all bytes of the object are there."""
    received = os.stat(destination).st_size
    if received != found.size:
        raise Fault(f"{received} bytes came of {found.size}", passing=True)


def _object(info: dict[str, Any]) -> Object:
    version = info.get("generation") or info.get("ETag") or info.get("etag")
    return Object(info["name"], info["size"], version and str(version))
