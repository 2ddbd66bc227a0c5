"""Remote inputs that a node has fetched once, for all tasks that want them.

An entry is one object in one version. Whoever fetches it holds a lock on its `.part` file
and renames that into place when it is whole; the others wait for the lock and find the
entry. A lock dies with its process, so that a crash leaves nothing but a `.part` file,
which the next one overwrites.
"""

import asyncio
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from raytes.storage.local import copy_file
from raytes.storage.locks import opened_lock, try_lock
from raytes.storage.objects import Object
from raytes.storage.progress import Progress

_LOOK_AT_LOCK = 0.05  # seconds; flock can be waited for only by blocking a thread
PART = ".part"
_READABLE = 0o644


class InputCache:
    """What a node keeps of one store; all its runners share it through the filesystem."""

    def __init__(self, directory: Path, limit: int, store: str) -> None:
        """`limit` is the bytes kept of all stores; what tasks are using comes on top. `store`
        tells apart stores in which one path can mean two objects.
        """
        self._store = store
        self._all = directory
        # After a power cut a file may be there without its bytes, and syncing each would cost
        # more than fetching some again: what an earlier boot has left is not used.
        self._directory = directory / _boot_id()
        self._limit = limit
        self._grown = False

    def takes(self, found: Object) -> bool:
        """Whether an object can be an entry: it has a version, and there is room for it."""
        return found.version is not None and found.size <= self._limit

    async def provide(
        self,
        found: Object,
        fetch: Callable[[Path], Awaitable[None]],
        destination: Path,
        *,
        read_only: bool,
    ) -> bool:
        """Has an object at `destination`; `fetch` is asked for it if it isn't an entry yet.

        Returns whether that wasn't needed, also because another runner fetched it meanwhile.
        A `read_only` destination is the entry itself under another name (what is written to
        it would be seen by all); else it is a copy.
        """
        entry = self._path(found)
        fetched = False
        while not await _give(entry, destination, read_only=read_only):
            fetched |= await self._add(entry, fetch)
        return not fetched

    async def _add(self, entry: Path, fetch: Callable[[Path], Awaitable[None]]) -> bool:
        """Fetches an entry, or waits for someone else who does, and says which it was."""
        part = entry.with_name(entry.name + PART)
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with opened_lock(part) as descriptor:
            while not try_lock(descriptor):  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(_LOOK_AT_LOCK)
            if not _is_wanted(descriptor, part, entry):
                return False
            try:
                await fetch(part)
                part.chmod(_READABLE)
                part.rename(entry)
                self._grown = True
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        return True

    def trim(self) -> None:
        """Removes what was used least recently until the limit is kept, and what crashes left.

        What a task is using (it has another name) stays. Does nothing unless this object has
        added an entry since the last time.
        """
        if not self._grown:
            return
        self._grown = False
        with opened_lock(self._directory / "trim.lock") as lock:
            if try_lock(lock):  # else someone is at it
                self._forget_other_boots()
                self._remove_unused()

    def _path(self, found: Object) -> Path:
        name = "\n".join((self._store, found.path, str(found.version), str(found.size)))
        digest = hashlib.sha256(name.encode()).hexdigest()
        return self._directory / digest[:2] / digest

    def _forget_other_boots(self) -> None:
        for directory in self._all.iterdir():
            if directory != self._directory:
                shutil.rmtree(directory, ignore_errors=True)

    def _remove_unused(self) -> None:
        entries = []
        for path in self._directory.glob("??/*"):
            if path.name.endswith(PART):
                _remove_abandoned(path)
                continue
            with suppress(FileNotFoundError):
                entries.append((path.stat(), path))
        excess = sum(status.st_size for status, _ in entries) - self._limit
        for status, path in sorted(entries, key=lambda pair: pair[0].st_atime_ns):
            if excess <= 0:
                return
            if status.st_nlink == 1:
                path.unlink(missing_ok=True)
                excess -= status.st_size


async def _give(entry: Path, destination: Path, *, read_only: bool) -> bool:
    """Has `entry` at `destination`; False if there is no such entry."""
    try:
        _note_use(entry)
        if read_only and _link(entry, destination):
            return True
        await _copy(entry, destination)
    except FileNotFoundError:
        return False
    return True


def _note_use(entry: Path) -> None:
    # In the time of access, which most mounts don't keep exactly by themselves.
    os.utime(entry, (time.time(), entry.stat().st_mtime))


def _link(entry: Path, destination: Path) -> bool:
    try:
        destination.hardlink_to(entry)
    except FileNotFoundError:
        raise
    except OSError:
        return False  # another filesystem, or one without hard links
    return True


async def _copy(entry: Path, destination: Path) -> None:
    stop = threading.Event()
    try:
        await asyncio.to_thread(copy_file, entry, destination, stop, Progress())
    finally:
        stop.set()


def _is_wanted(descriptor: int, part: Path, entry: Path) -> bool:
    """Whether the entry is still to be fetched, by whoever has locked this `.part` file."""
    try:
        if not os.path.samestat(os.fstat(descriptor), part.stat()):
            return False
    except FileNotFoundError:
        return False  # who had the lock before has renamed or removed it
    if entry.exists():
        part.unlink()
        return False
    return True


def _remove_abandoned(part: Path) -> None:
    with suppress(FileNotFoundError), opened_lock(part) as descriptor:
        if try_lock(descriptor):
            part.unlink()


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
