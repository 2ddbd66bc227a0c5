"""Moving files and trees between the node's disk and a store."""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from raytes.errors import ForbiddenURL, InputFailed, OutputFailed, SystemFault
from raytes.models import TesFileType
from raytes.storage import urls
from raytes.storage.cache import InputCache
from raytes.storage.download import Download
from raytes.storage.entries import Entry, Stored
from raytes.storage.faults import Fault, Forbidden, fault_of
from raytes.storage.objects import ObjectStore
from raytes.storage.parallel import in_parallel
from raytes.storage.progress import Progress
from raytes.storage.slots import Slots
from raytes.storage.urls import Location

_FILES_AT_ONCE = 16


class Remote:
    """One store, seen as files and directories."""

    def __init__(
        self,
        connect: Callable[[], ObjectStore],
        *,
        hide: Callable[[str], str],
        cache: InputCache | None,
        slots: Slots,
    ) -> None:
        """`hide` takes secrets out of a text that is going to be shown."""
        self._connect = connect
        self._cache = cache
        self._slots = slots
        self._hide = hide
        self._connected: ObjectStore | None = None
        self._connecting = asyncio.Lock()

    async def fetch(
        self,
        location: Location,
        kind: TesFileType | None,
        destination: Path,
        progress: Progress,
        *,
        read_only: bool,
    ) -> TesFileType:
        """Downloads the file or the directory at `location` to `destination`.

        What is there decides; `kind` decides where both are. Nobody will write to what is
        `read_only`: it may be shared with other tasks.

        Raises:
            InputFailed: there is neither, or the transfer failed.
            ForbiddenURL: it led to what the service may not touch.
        """
        try:
            store = await self.store()
            download = Download(store, self._cache, self._slots, progress, read_only=read_only)
            return await download.fetch(location.path, kind, destination)
        except (Fault, OSError) as error:
            what = f"the input {urls.shown(location.url)} can't be fetched"
            raise self._failed(InputFailed, what, error) from error

    async def publish(
        self, entries: Sequence[Entry], location: Location, progress: Progress
    ) -> list[Stored]:
        """Uploads the files of one output; each replaces what is at its URL.

        Raises:
            OutputFailed: a transfer failed; files that were uploaded by then stay.
            ForbiddenURL: it led to what the service may not touch.
        """
        stored: dict[str, Stored] = {}

        async def upload(entry: Entry) -> None:
            url = urls.join(location.url, entry.relative)
            try:
                store = await self.store()
                async with self._slots.one():
                    path = location.below(entry.relative).path
                    size = await _upload(store, entry, path, progress)
            except (Fault, OSError, urls.InvalidURL) as error:
                what = f"the output {urls.shown(url)} can't be stored"
                raise self._failed(OutputFailed, what, error) from error
            if size is not None:
                stored[entry.relative] = Stored(entry.relative, url, size)

        await in_parallel(entries, upload, limit=_FILES_AT_ONCE)
        return [stored[entry.relative] for entry in entries if entry.relative in stored]

    async def store(self) -> ObjectStore:
        """The store itself, connected when it is asked for the first time.

        Raises:
            Fault: its options can't be used.
        """
        async with self._connecting:
            if self._connected is None:
                # In a thread: imports, and looking for credentials, take their time.
                try:
                    self._connected = await asyncio.to_thread(self._connect)
                except Exception as error:
                    raise Fault(f"its store can't be used: {error}") from error
            return self._connected

    def _failed(self, kind: type[SystemFault], what: str, error: Exception) -> SystemFault:
        fault = fault_of(error)
        if isinstance(fault, Forbidden):
            return ForbiddenURL(self._hide(f"{what}: {fault}"))
        failed = kind(self._hide(f"{what}: {fault}"))
        failed.transient = fault.transient
        return failed


async def _upload(store: ObjectStore, entry: Entry, path: str, progress: Progress) -> int | None:
    """Bytes that were stored, or None for a directory."""
    if entry.source is None:
        await store.mark(path)
        return None
    if path.endswith("/"):
        raise Fault("a URL that ends with a slash names a directory, and this is a file")
    transfer = progress.begin()
    await store.put(entry.source, path, transfer)
    transfer.done()
    return os.stat(entry.source).st_size
