"""Paths of a container, found on the node without ever leaving what is mounted.

Links are interpreted as the container sees them. The task's own containers are gone when this is
used. Those of others may change what they have mounted too: what is found here is therefore
opened as `held` does it.
"""

import os
import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from raytes.runner.mounts import Bind, is_below
from raytes.storage.below import held

_MAX_LINKS: Final = 40  # as Linux has it


class Outside(Exception):
    """A path leads out of what is mounted, or in circles."""


class Namespace:
    """The part of a container's file system that lies on the node: its bind mounts."""

    def __init__(self, binds: Iterable[Bind]) -> None:
        self._sources = {bind.destination: bind.source for bind in binds}

    def resolve(self, path: str) -> Path | None:
        """The file or directory at a container path, free of links; None: there is none.

        Raises:
            Outside: the path, or a link in it, leads to where nothing is mounted.
        """
        pending = _names(path)
        at, host = "/", self._sources.get("/")
        links = 0
        while pending:
            name = pending.pop()
            if name == "..":
                at = posixpath.dirname(at)
                host = self._host(at)
                continue
            inside = posixpath.join(at, name)
            found = self._sources.get(inside) or (host / name if host else None)
            if found is None and not self._leads_to_a_mount(inside):
                raise Outside(
                    f"{path} leads to {inside}, where nothing of the task is mounted"
                    if links
                    else f"no executor has made anything at {inside}"
                )
            if found is not None and found.is_symlink():
                links += 1
                if links > _MAX_LINKS:
                    raise Outside(f"{path} has too many links")
                target = os.readlink(found)
                if target.startswith("/"):
                    at, host = "/", self._sources.get("/")
                pending.extend(_names(target))
                continue
            if found is not None and not os.path.lexists(found):
                return None
            at, host = inside, found
        return host

    def names(self, path: str, host: Path | None) -> list[str]:
        """The names in the directory at a container path, sorted; what is mounted in it too.

        Parameters:
            host: what `resolve` has found at the path.

        Raises:
            OSError: it can't be read; ThroughLink: it isn't where it was mounted from any more.
        """
        names: set[str] = set()
        if host is not None:
            with held(host) as found:
                names |= set(os.listdir(found))
        prefix = path.rstrip("/") + "/"
        for destination in self._sources:
            if destination.startswith(prefix):
                names.add(destination[len(prefix) :].split("/")[0])
        return sorted(names)

    def _host(self, at: str) -> Path | None:
        """Where a path already free of links lies."""
        for destination in sorted(self._sources, key=len, reverse=True):
            if is_below(at, destination):
                return self._sources[destination] / at[len(destination) :].lstrip("/")
        return None

    def _leads_to_a_mount(self, path: str) -> bool:
        return any(is_below(destination, path) for destination in self._sources)


def _names(path: str) -> list[str]:
    """The names of a path, the first one last."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]
