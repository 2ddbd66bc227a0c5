"""Finding the outputs of a task beneath its mounts."""

import errno
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from raytes.errors import InvalidMounts, MissingOutput, OutputFailed
from raytes.models import TesFileType, TesOutput
from raytes.runner.beneath import Namespace, Outside
from raytes.runner.mounts import normal
from raytes.runner.wildcards import has_wildcards, literal, matches
from raytes.storage import Entry
from raytes.storage.below import ThroughLink
from raytes.storage.local import words

_MAX_DEPTH: Final = 300
"""Directories in one another, of an output. Each is looked up from the root, link by link, so
what it costs grows with the cube of it; and more would be more than Python's stack can take."""

_MAX_AGAIN: Final = 100_000
"""Names that an output may find again, in directories where it has been before.

Each link to a directory is a directory to whoever asks for the output: two links to one are two
copies, as a sample's own link to what all share. But links in what is linked to multiply, and a
few dozen of them make more files than any store holds; no order of the walk tells the one from
the other. What is found for the first time isn't counted: there may be as much as the disk holds.
"""

# What the kernel says of a name that has become something else since it was listed. This task's
# containers are gone by then: another task has changed what lies in a root that both may write to.
_CHANGED: Final = {errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.ESTALE}


@dataclass(frozen=True, slots=True)
class FoundOutput:
    """An output as it is on the node."""

    type: TesFileType
    entries: list[Entry]
    paths: dict[str, str]  # an entry's `relative` → path in the container


class _TooOften(Exception):
    """Links lead to the same directories again and again."""


def find_output(
    output: TesOutput,
    namespace: Namespace,
    warn: Callable[[str], None],
    check: Callable[[], None],
) -> FoundOutput:
    """Find the files of an output.

    Parameters:
        check: is called again and again, and raises what is to end the search.

    Raises:
        MissingOutput: there is nothing at its path.
        OutputFailed: its files lie too deep to be named, links multiply them, or another task
            changes them meanwhile.
        InvalidMounts: its `path_prefix` is no prefix of what was found, or makes two files one.
    """
    try:
        return _find(output, _Walk(namespace, warn, check), namespace)
    except ThroughLink as error:
        why = f"{words(error)}, and a task has put that there"
    except _TooOften:
        why = (
            f"links lead to the same directories again and again (to more than {_MAX_AGAIN:,} "
            "names in them); have the task make fewer such links, or copy what they are to hold"
        )
    except RecursionError:
        why = f"its directories are nested too deeply ({_MAX_DEPTH} are allowed)"
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            why = "its path, or that of a file in it, is longer than a path on the node can be"
        elif error.errno in _CHANGED:
            why = (
                f"it was changed while it was looked for ({words(error)}); have no other task "
                "write to it in the meantime"
            )
        else:
            raise
    raise OutputFailed(f"the output {output.path} can't be stored: {why}")


def _find(output: TesOutput, walk: "_Walk", namespace: Namespace) -> FoundOutput:
    if has_wildcards(output.path):
        return _find_matches(output, walk)
    path = normal(literal(output.path))
    try:
        found = namespace.resolve(path)
    except Outside as error:
        raise MissingOutput(f"the output {path} is not there: {error}") from error
    if found is None:
        raise MissingOutput(f"the output {path} is not there: no executor has made it")
    entries, paths = _relative(walk.files(path), path)
    if entries and entries[0].relative == "" and entries[0].source is not None:
        return FoundOutput(TesFileType.FILE, entries, paths)
    if not found.is_dir():
        raise MissingOutput(f"the output {path} is neither a file nor a directory")
    return FoundOutput(TesFileType.DIRECTORY, entries, paths)


class _Walk:
    """Walks container paths; says what it leaves out, and why."""

    def __init__(
        self, namespace: Namespace, warn: Callable[[str], None], check: Callable[[], None]
    ) -> None:
        self._namespace = namespace
        self._warn = warn
        self._check = check
        self._been: set[tuple[int, int, int]] = set()
        self._again = 0  # names found again

    def files(self, path: str) -> Iterator[tuple[str, Path | None]]:
        """Each file at or below a container path, and as None each directory in which nothing is
        that can be stored."""
        yield from self._files(path, ())

    def matching(self, pattern: str) -> Iterator[str]:
        """The container paths that match a pattern."""
        yield from self._matching("/", normal(pattern).strip("/").split("/"))

    def _files(
        self, path: str, above: tuple[tuple[int, int], ...]
    ) -> Iterator[tuple[str, Path | None]]:
        host = self._resolve(path)
        if host is None:
            return
        status = host.lstat()
        if stat.S_ISREG(status.st_mode):
            yield path, host
        elif stat.S_ISDIR(status.st_mode):
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                self._warn(f"{path} is left out: it is a link to a directory that it lies in")
                return
            if len(above) == _MAX_DEPTH:
                raise RecursionError
            is_empty = True
            for name in self._names(path, host, identity):
                for file in self._files(f"{path}/{name}", (*above, identity)):
                    is_empty = False
                    yield file
            if is_empty:
                yield path, None
        else:
            kind = _SPECIAL.get(stat.S_IFMT(status.st_mode), "a special file")
            self._warn(f"{path} is left out: it is {kind}, not a file or a directory")

    def _matching(self, directory: str, names: Sequence[str]) -> Iterator[str]:
        first, *rest = names
        try:
            host = self._namespace.resolve(directory)
            if host is not None and not host.is_dir():
                return
            status = host and host.stat()
            identity = (status.st_dev, status.st_ino) if status else None
            there = self._names(directory, host, identity, len(rest))
        except (Outside, PermissionError):
            return
        for name in there:
            if matches(name, first):
                path = f"{directory.rstrip('/')}/{name}"
                if rest:
                    yield from self._matching(path, rest)
                else:
                    yield path

    def _names(
        self, path: str, host: Path | None, identity: tuple[int, int] | None, pattern: int = -1
    ) -> list[str]:
        """The names in a directory.

        Parameters:
            host, identity: of the directory on the node; None: it isn't there, only what is
                mounted in it.
            pattern: how many names of a pattern are to be matched below it.
        """
        self._check()
        names = self._namespace.names(path, host)
        if identity is not None:
            if (*identity, pattern) in self._been:
                self._again += len(names)
            self._been.add((*identity, pattern))
            if self._again > _MAX_AGAIN:
                raise _TooOften
        return names

    def _resolve(self, path: str) -> Path | None:
        try:
            host = self._namespace.resolve(path)
        except Outside as error:
            self._warn(f"{path} is left out: {error}")
            return None
        if host is None:
            self._warn(f"{path} is left out: it is a link to what isn't there")
        return host


_SPECIAL = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def _find_matches(output: TesOutput, walk: _Walk) -> FoundOutput:
    files = (file for match in walk.matching(output.path) for file in walk.files(match))
    entries, paths = _relative(files, output.path_prefix or "/")
    return FoundOutput(TesFileType.DIRECTORY, entries, paths)


def _relative(
    files: Iterator[tuple[str, Path | None]], prefix: str
) -> tuple[list[Entry], dict[str, str]]:
    entries: list[Entry] = []
    paths: dict[str, str] = {}
    for path, host in files:
        if not path.startswith(prefix):
            raise InvalidMounts(
                f"the output {path} can't be stored: its path_prefix {prefix} is no prefix of it"
            )
        relative = path[len(prefix) :].lstrip("/")
        if relative in paths:
            raise InvalidMounts(
                f"the outputs {paths[relative]} and {path} can't both be stored: the path_prefix "
                f"{prefix} leaves {relative or 'nothing'} of either; end it with a slash, or cut "
                "less"
            )
        entries.append(Entry(relative, host))
        paths[relative] = path
    return entries, paths
