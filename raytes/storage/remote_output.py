"""Publishing outputs in a store of objects, or on a file server."""

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from posixpath import dirname, join

from raytes.attempt import Receipt
from raytes.errors import OutputFailed
from raytes.storage import urls
from raytes.storage.authority import Authority
from raytes.storage.bridge import begin, run
from raytes.storage.entries import Entry, Stored
from raytes.storage.faults import Fault
from raytes.storage.objects import ObjectStore, Outgoing, Staged
from raytes.storage.parallel import in_parallel
from raytes.storage.progress import Progress, Transfer
from raytes.storage.remote import Remote
from raytes.storage.urls import Location

_FILES_AT_ONCE = 16

_WORTH_A_LISTING = 8
"""From so many files on, one look at what is there beforehand is cheaper than being refused."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file that waits for its commit."""

    entry: Entry
    url: str
    size: int  # bytes
    staged: Staged
    transfer: Transfer


class RemoteOutput:
    """The files of one output under its URL."""

    def __init__(
        self, remote: Remote, location: Location, authority: Authority, progress: Progress
    ) -> None:
        self._remote = remote
        self._location = location
        self._authority = authority
        self._progress = progress
        self._seen: Mapping[str, str] = {}
        self._asides: set[str] = set()
        self._entries: list[Entry] = []
        self._files: dict[str, _File] = {}  # by the entry's `relative`; those that wait

    def stage(self, entries: Sequence[Entry], stop: threading.Event) -> None:
        """As `Output.stage`."""
        self._entries += entries
        run(self._stage_all([entry for entry in entries if entry.source is not None]), stop)

    def commit(self, stop: threading.Event) -> list[Stored]:
        """As `Output.commit`."""
        files = [self._files[entry.relative] for entry in self._entries if entry.source is not None]
        run(self._commit_all(files), stop)
        return [Stored(file.entry.relative, file.url, file.size) for file in files]

    def discard(self) -> Future[None] | None:
        """As `Output.discard`."""
        return begin(self._discard_all()) if self._files or self._asides else None

    async def _stage_all(self, files: Sequence[Entry]) -> None:
        if len(files) >= _WORTH_A_LISTING:
            try:
                store = await self._remote.store()
                self._seen = await store.versions_below(self._location.path, 2 * len(files))
            except (Fault, OSError) as error:
                raise self._failed(self._location.url, error) from error
        await in_parallel(files, self._stage, limit=_FILES_AT_ONCE)

    async def _stage(self, entry: Entry) -> None:
        assert entry.source is not None, "directories have no bytes"
        url = urls.join(self._location.url, entry.relative)
        transfer = self._progress.begin()

        async def announce(token: str) -> None:
            await asyncio.to_thread(self._authority.ask, [Receipt(url, token)])

        async def ask() -> None:
            await asyncio.to_thread(self._authority.ask, [])

        try:
            path = self._location.below(entry.relative).path
            if path.endswith("/"):
                raise Fault("a URL that ends with a slash names a directory, and this is a file")
            directory = self._location.path.rstrip("/") if entry.relative else dirname(path)
            aside = join(directory, self._authority.aside)
            self._asides.add(aside)
            store = await self._remote.store()
            seen = self._seen.get(path, "")
            size = os.stat(entry.source).st_size  # before something is staged that may not stay
            file = Outgoing(entry.source, path, aside, transfer, announce, ask, seen)
            async with self._remote.slots.one():
                staged = await store.stage(file)
        except (Fault, OSError, urls.InvalidURL) as error:
            raise self._failed(url, error) from error
        self._files[entry.relative] = _File(entry, url, size, staged, transfer)

    async def _commit_all(self, files: Sequence[_File]) -> None:
        await in_parallel(files, self._commit, limit=_FILES_AT_ONCE)
        directories = [entry for entry in self._entries if entry.source is None]
        await in_parallel(directories, self._mark, limit=_FILES_AT_ONCE)
        await self._tidy(await self._remote.store())

    async def _commit(self, file: _File) -> None:
        try:
            async with self._remote.slots.one():
                await file.staged.commit()
        except (Fault, OSError) as error:
            raise self._failed(file.url, error) from error
        del self._files[file.entry.relative]
        file.transfer.done()

    async def _mark(self, directory: Entry) -> None:
        try:
            location = self._location.below(directory.relative)
            await (await self._remote.store()).mark(location.path)
        except (Fault, OSError, urls.InvalidURL) as error:
            url = urls.join(self._location.url, directory.relative)
            raise self._failed(url, error) from error

    async def _discard_all(self) -> None:
        async def discard(file: _File) -> None:
            with suppress(Fault, OSError):
                await file.staged.discard()

        await in_parallel(list(self._files.values()), discard, limit=_FILES_AT_ONCE)
        self._files.clear()
        with suppress(Fault, OSError):
            await self._tidy(await self._remote.store())

    async def _tidy(self, store: ObjectStore) -> None:
        for aside in self._asides:
            await store.tidy(aside)
        self._asides.clear()

    def _failed(self, url: str, error: Exception) -> Exception:
        what = f"the output {urls.shown(url)} can't be stored"
        return self._remote.failed(OutputFailed, what, error)
