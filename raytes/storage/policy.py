"""What a task may touch: the enabled schemes, and for files what lies under a local root."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from raytes.config import LocalRoot, Settings
from raytes.errors import ForbiddenURL
from raytes.storage import urls
from raytes.storage.hosts import refusal_of_host
from raytes.storage.schemes import SCHEMES, is_installed
from raytes.storage.urls import Location


@dataclass(frozen=True, slots=True)
class LocalTarget:
    """A path with every link resolved, and the root (resolved too) that allows it."""

    root: Path
    path: Path
    shared: bool  # the root is the same directory on every node


class Policy:
    """The rules of one service, asked at submission and again at use."""

    def __init__(self, settings: Settings) -> None:
        self._roots = settings.local_root
        self._own = (settings.state_dir, settings.scratch, settings.cache)
        self._enabled = frozenset(scheme.lower() for scheme in settings.schemes)
        self._allow_hosts = settings.allow_hosts
        self._deny_hosts = settings.deny_hosts
        self._endpoints = frozenset(_endpoints(settings.storage))
        self._sections = [name for name in settings.storage if urls.names_host(name)]

    def usable_schemes(self) -> list[str]:
        """The schemes that are enabled and installed, sorted."""
        return sorted(scheme for scheme in self._enabled if is_installed(scheme))

    def locate(self, url: str, *, granted: bool = False) -> Location:
        """Where `url` points, if its scheme may be used, and its host as far as its name tells,
        unless that is `granted`. Of files, only the scheme is judged.

        Raises:
            ForbiddenURL: it is no URL; its scheme is unknown, not enabled or not installed; or
                its host is not one that may be connected to.
        """
        try:
            location = urls.parse(url, self._endpoints)
        except urls.InvalidURL as error:
            raise ForbiddenURL(f"the URL {urls.shown(url)!r} can't be used: {error}") from None
        refusal = self._refusal_of(location.scheme)
        if refusal is None and not granted:
            refusal = self._refusal_of_host(location)
        if refusal:
            raise ForbiddenURL(f"{urls.shown(url)} can't be used: {refusal}")
        return location

    def resolve(self, path: str | os.PathLike[str]) -> LocalTarget:
        """The real path of `path`, which needn't exist, and the root it lies under.

        Raises:
            ForbiddenURL: with every link resolved, it lies under no local root, or it is in (or
                contains) a directory where the service keeps its own files.
        """
        real = Path(os.path.realpath(path))
        # They hold the database, secrets, and the files of other tasks.
        own = [Path(os.path.realpath(directory)) for directory in self._own]
        roots = [(root, at) for root, at in self._real_roots() if real.is_relative_to(at)]
        for root, root_path in roots:
            # Inside of them only a root that was put there on purpose counts (the default is
            # `<state-dir>/files`).
            if all(not _overlap(real, one) or one in root_path.parents for one in own):
                return LocalTarget(root_path, real, root.shared)
        where = _as_given(os.fspath(path), real)
        raise ForbiddenURL(
            f"{where} can't be used: there, or below it, the service keeps its own files"
            if roots
            else self._outside(where)
        )

    def is_granted(self, url: str) -> bool:
        """Whether the settings have a section for the host of this URL: whoever wrote
        it there wants it to be used, whatever its address.
        """
        return urls.longest_prefix(url, self._sections) is not None

    def local_roots(self) -> list[Path]:
        """The directories that file URLs may use, as they were configured."""
        return [root.path for root in self._roots]

    def _real_roots(self) -> list[tuple[LocalRoot, Path]]:
        """The roots, the innermost first, so that the most specific one decides."""
        real = [(root, Path(os.path.realpath(root.path))) for root in self._roots]
        return sorted(real, key=lambda pair: len(pair[1].parts), reverse=True)

    def _outside(self, where: str) -> str:
        roots = ", ".join(str(root) for root in self.local_roots())
        return (
            f"{where} can't be used: files have to lie under {roots}; "
            "use a path there, or have its directory added with --local-root"
        )

    def _refusal_of(self, scheme: str) -> str | None:
        if scheme in self._enabled and is_installed(scheme):
            return None
        usable = ", ".join(self.usable_schemes())
        if scheme not in SCHEMES:
            return f"the scheme {scheme!r} is not known here; these are: {usable}"
        if scheme not in self._enabled:
            return (
                f"the scheme {scheme!r} is not enabled here; these are: {usable} "
                "(the setting `schemes`)"
            )
        return f"the scheme {scheme!r} needs the package {SCHEMES[scheme].package} to be installed"

    def _refusal_of_host(self, location: Location) -> str | None:
        if location.scheme not in urls.WITH_HOST or self.is_granted(location.url):
            return None
        if location.scheme == "sftp":
            return (
                "there is no section for it in the settings, and sftp always needs credentials "
                '([storage."sftp://host"] with username, and password or client_keys)'
            )
        host = urlsplit(location.url).hostname or ""
        return refusal_of_host(host, self._allow_hosts, self._deny_hosts)


def _endpoints(sections: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The servers that S3 URLs may name: those that a section is called after."""
    for name, options in sections.items():
        endpoint = urlsplit(str(options.get("endpoint_url", ""))).netloc.lower()
        if endpoint and name.lower().rstrip("/") == f"s3://{endpoint}":
            yield endpoint


def _as_given(path: str, real: Path) -> str:
    return path if path == str(real) else f"{path} (which is really {real})"


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)
