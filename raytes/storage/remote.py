"""A store of objects, seen as files and directories."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from raytes.errors import ForbiddenURL, InputFailed, OutputFailed, SystemFault
from raytes.models import TesFileType
from raytes.storage import urls
from raytes.storage.cache import InputCache
from raytes.storage.download import Download
from raytes.storage.faults import Fault, Forbidden, fault_of
from raytes.storage.objects import ObjectStore
from raytes.storage.progress import Progress
from raytes.storage.slots import Slots
from raytes.storage.urls import Location


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
        self.slots = slots
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
            download = Download(store, self._cache, self.slots, progress, read_only=read_only)
            return await download.fetch(location.path, kind, destination)
        except (Fault, OSError) as error:
            what = f"the input {urls.shown(location.url)} can't be fetched"
            raise self.failed(InputFailed, what, error) from error

    async def revoke(self, location: Location, token: str) -> None:
        """Takes back what an earlier attempt has staged for `location`.

        Raises:
            OutputFailed: its store doesn't do it.
            ForbiddenURL: it led to what the service may not touch.
        """
        try:
            await (await self.store()).revoke(location.path, token)
        except (Fault, OSError) as error:
            what = f"what an earlier attempt left for {urls.shown(location.url)} can't be removed"
            raise self.failed(OutputFailed, what, error) from error

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

    def failed(self, kind: type[SystemFault], what: str, error: Exception) -> SystemFault:
        """What a task is told of an error, without secrets."""
        fault = fault_of(error)
        if isinstance(fault, Forbidden):
            return ForbiddenURL(self._hide(f"{what}: {fault}"))
        failed = kind(self._hide(f"{what}: {fault}"))
        failed.transient, failed.of_node = fault.transient, fault.of_node
        return failed
