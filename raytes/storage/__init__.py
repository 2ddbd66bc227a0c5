"""Data in and out of a task: which URLs it may use, and moving their bytes."""

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from raytes.attempt import Receipt
from raytes.config import GB, Settings
from raytes.errors import ForbiddenURL
from raytes.models import TesFileType
from raytes.storage import local, local_output, urls
from raytes.storage.authority import Authority, aside_of
from raytes.storage.entries import Entry, Output, Stored
from raytes.storage.options import StoreOptions
from raytes.storage.policy import Policy
from raytes.storage.progress import Audience, Progress
from raytes.storage.slots import Slots
from raytes.storage.urls import Location

if TYPE_CHECKING:
    from raytes.storage.cache import InputCache
    from raytes.storage.objects import ObjectStore
    from raytes.storage.remote import Remote

__all__ = ["Audience", "Authority", "Entry", "Output", "Progress", "Storage", "Stored"]

_AT_ONCE = 16  # things that are taken back


class Storage:
    """All stores that one service may use, as its settings say.

    Its methods block, and may be called from several threads at once.
    """

    def __init__(self, settings: Settings) -> None:
        self._options = StoreOptions(settings.storage)
        self._policy = Policy(settings)
        self._cache_dir = settings.cache
        self._cache_bytes = int(settings.cache_size_gb * GB)
        self._slots = Slots(settings.scratch / "transfers", settings.node_transfers)
        self._remotes: dict[tuple[str, str | None, str], Remote] = {}
        self._remotes_lock = threading.Lock()

    def local_path(self, url: str) -> Path | None:
        """The real path that a file URL or a bare path names, with every link resolved; None
        for a URL of another scheme. It needn't exist.

        Raises:
            ForbiddenURL: the URL can't be used, or the path lies under no local root.
        """
        location = self._policy.locate(url)
        return self._policy.resolve(location.path).path if location.scheme == "file" else None

    def fetch(
        self,
        url: str,
        kind: TesFileType | None,
        destination: Path,
        stop: threading.Event,
        *,
        read_only: bool = False,
        progress: Progress | None = None,
    ) -> TesFileType:
        """Brings the file or the directory at `url` to `destination`, and says which it is.

        Where a store has both at one URL, `kind` (None, or a trailing slash) decides. A
        directory is merged into what is at `destination`, whose parent is there. Links at or
        below `destination` are never followed.

        Nobody may write to a `read_only` destination, nor change its mode: it can be what the
        node's cache holds, under another name. Else it is the caller's own copy. `progress` is
        told what is moved.

        Raises:
            InputFailed: it isn't there, can't be read, or the transfer failed.
            ForbiddenURL: `url` is not one that the service may read.
            Canceled: `stop` was set; what was fetched by then stays.
        """
        location = self._policy.locate(url)
        progress = progress or Progress()
        if location.scheme == "file":
            source = self._policy.resolve(location.path).path
            return local.copy_in(source, destination, stop, progress)
        from raytes.storage.bridge import run

        fetching = self._remote(location).fetch(
            location, kind, destination, progress, read_only=read_only
        )
        return run(fetching, stop)

    def output(self, url: str, authority: Authority, progress: Progress | None = None) -> Output:
        """What stores the files of one output at or below `url`, each in place of what was there.

        Raises:
            ForbiddenURL: `url` is not one that the service may write.
        """
        location = self._policy.locate(url)
        progress = progress or Progress()
        if location.scheme == "file":
            return local_output.LocalOutput(self._policy, location.path, url, authority, progress)
        from raytes.storage.remote_output import RemoteOutput

        return RemoteOutput(self._remote(location), location, authority, progress)

    def revoke(
        self,
        urls_of_outputs: Iterable[str],
        task_id: str,
        attempts: Iterable[int],
        receipts: Iterable[Receipt],
        stop: threading.Event,
    ) -> None:
        """Takes back what attempts at a task have staged for its outputs: they can't commit it
        any more, though they may still run.

        Raises:
            OutputFailed: a store doesn't do it.
            ForbiddenURL: a URL is not one that the service may write.
            Canceled: `stop` was set.
        """
        asides = [aside_of(task_id, attempt) for attempt in attempts]
        remote: list[tuple[Location, str]] = []
        for url in dict.fromkeys(urls_of_outputs):
            location = self._policy.locate(url)
            if location.scheme == "file":
                local_output.revoke(self._policy, location.path, asides)
            elif location.scheme in urls.FILE_SERVERS:
                remote += [(location, aside) for aside in asides]
        for receipt in receipts:
            location = self._policy.locate(receipt.url)
            if location.scheme == "file":
                local_output.revoke(self._policy, location.path, [receipt.token])
            else:
                remote.append((location, receipt.token))
        if remote:
            from raytes.storage.bridge import run
            from raytes.storage.parallel import in_parallel

            async def revoke(staged: tuple[Location, str]) -> None:
                location, token = staged
                await self._remote(location).revoke(location, token)

            run(in_parallel(remote, revoke, limit=_AT_ONCE), stop)

    def refusal_of_input(self, url: str) -> str | None:
        """Why `url` can't be an input, as a sentence; None: nothing speaks against it."""
        return self._refusal(url)

    def refusal_of_output(self, url: str) -> str | None:
        """Why `url` can't be an output, as a sentence; None: nothing speaks against it."""
        return self._refusal(url) or self._refusal_to_write(url)

    def locations(self) -> list[str]:
        """What of the settings is truly usable, as URLs (service-info's `storage`)."""
        schemes = self._policy.usable_schemes()
        roots = [urls.file_url(root) for root in self._policy.local_roots()]
        return [
            *(roots if "file" in schemes else []),
            *(f"{scheme}://" for scheme in schemes if scheme != "file"),
        ]

    def needs_serving_node(self, urls: Iterable[str]) -> bool:
        """Whether one of `urls` is a file that only the serving node has."""
        return any(self._is_on_serving_node(url) for url in urls)

    def _refusal(self, url: str) -> str | None:
        try:
            self.local_path(url)
        except ForbiddenURL as error:
            return str(error)
        return None

    def _refusal_to_write(self, url: str) -> str | None:
        scheme = self._policy.locate(url).scheme
        if scheme in urls.READ_ONLY:
            return f"{urls.shown(url)} can't be used: {scheme} can only be read from"
        return None

    def _is_on_serving_node(self, url: str) -> bool:
        try:
            location = self._policy.locate(url)
            return location.scheme == "file" and not self._policy.resolve(location.path).shared
        except ForbiddenURL:
            return False  # it fails wherever it is tried

    def _remote(self, location: Location) -> "Remote":
        from raytes.storage.connect import connect
        from raytes.storage.remote import Remote

        section = self._options.section(location.url)
        key = (location.scheme, section, location.authority)
        with self._remotes_lock:  # two of a store would be two pools of connections
            if key not in self._remotes:
                self._remotes[key] = Remote(
                    lambda: connect(
                        location, self._options.values(section), section, self._policy, self._open
                    ),
                    hide=self._options.hide,
                    cache=self._cache(
                        f"{location.scheme} {location.authority} {self._options.identity(section)}"
                    ),
                    slots=self._slots,
                )
            return self._remotes[key]

    async def _open(self, url: str, headers: Mapping[str, str]) -> tuple["ObjectStore", str]:
        """What `OpenStore` of drs.py describes."""
        location = self._policy.locate(url)
        if location.scheme in urls.READ_ONLY | {"file"}:
            raise ForbiddenURL(f"{urls.shown(url)} can't be what a DRS name stands for")
        if headers and location.scheme in urls.WEB:
            from raytes.storage.web import WebStore

            # Of this URL only: wherever it redirects to, they don't go with it.
            return WebStore({"headers": dict(headers)}, url, self._policy), location.path
        return await self._remote(location).store(), location.path

    def _cache(self, store: str) -> "InputCache | None":
        from raytes.storage.cache import InputCache

        return InputCache(self._cache_dir, self._cache_bytes, store) if self._cache_bytes else None
