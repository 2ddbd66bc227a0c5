"""Bringing one input from a store to the node's disk, through the node's cache."""

import asyncio
import errno
import os
from collections.abc import Sequence
from pathlib import Path, PurePath

from raytes.models import TesFileType
from raytes.storage.below import entered
from raytes.storage.cache import InputCache
from raytes.storage.faults import Fault, Missing
from raytes.storage.objects import Object, ObjectStore
from raytes.storage.parallel import in_parallel
from raytes.storage.progress import Progress, Transfer
from raytes.storage.slots import Slots
from raytes.storage.tree import lay_out

_FILES_AT_ONCE = 16


class Download:
    """One fetch of a file or a directory."""

    def __init__(
        self,
        store: ObjectStore,
        cache: InputCache | None,
        slots: Slots,
        progress: Progress,
        *,
        read_only: bool,
    ) -> None:
        self._store = store
        self._cache = cache
        self._slots = slots
        self._progress = progress
        self._read_only = read_only

    async def fetch(self, path: str, kind: TesFileType | None, destination: Path) -> TesFileType:
        """Brings what is at `path` to `destination`; `kind` decides where both kinds are.

        Links that are at `destination` aren't followed.

        Raises:
            Fault: there is nothing, or a transfer failed.
            OSError: the node's disk doesn't take it.
        """
        is_directory = kind is TesFileType.DIRECTORY or path.endswith("/")
        try:
            if not is_directory and await self._fetch_file(path, destination):
                return TesFileType.FILE
            if listing := await self._store.find_below(path):
                await self._fetch_tree(path, listing, destination)
                return TesFileType.DIRECTORY
            if is_directory and await self._fetch_file(path, destination):
                return TesFileType.FILE
        finally:
            if self._cache is not None:
                await asyncio.to_thread(self._cache.trim)
        raise Missing

    async def _fetch_file(self, path: str, destination: Path) -> bool:
        found = await self._store.find(path)
        if found is None:
            return False
        self._progress.expect(1, found.size if found.size >= 0 else None)
        await self._bring(found, destination)
        return True

    async def _fetch_tree(self, path: str, listing: Sequence[Object], destination: Path) -> None:
        tree = lay_out(path, listing)
        for directory in ("", *tree.directories):
            with entered(destination.parent, PurePath(destination.name, directory)):
                pass
        self._progress.expect(len(tree.files), sum(one.size for one in tree.files.values()))

        async def bring(relative: str) -> None:
            place = PurePath(destination.name, relative)
            try:
                with entered(destination.parent, place.parent) as directory:
                    await self._bring(tree.files[relative], directory / place.name)
            except Fault as fault:
                raise fault.at(relative) from fault

        await in_parallel(tree.files, bring, limit=_FILES_AT_ONCE)

    async def _bring(self, found: Object, destination: Path) -> None:
        _make_way(destination)
        transfer = self._progress.begin()
        had = False
        if self._cache is not None and self._cache.takes(found):
            had = await self._cache.provide(
                found,
                lambda part: self._get(found, part, transfer),
                destination,
                read_only=self._read_only,
            )
        else:
            await self._get(found, destination, transfer)
        if had:
            transfer.cached(found.size)
        transfer.done()

    async def _get(self, found: Object, destination: Path, transfer: Transfer) -> None:
        async with self._slots.one():
            await self._store.get(found, destination, transfer)


def _make_way(destination: Path) -> None:
    """Removes a file or a link that is there: to write into it might be to write elsewhere."""
    if destination.is_dir() and not destination.is_symlink():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(destination))
    destination.unlink(missing_ok=True)
