"""Stage-out: the outputs of a task, found beneath its mounts and stored."""

import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from raytes.errors import InvalidMounts, MissingOutput
from raytes.models import TesFileType, TesOutput, TesOutputFileLog
from raytes.runner.beneath import Namespace, Outside
from raytes.runner.mounts import normal
from raytes.runner.wildcards import has_wildcards, literal, matches
from raytes.storage import Audience, Authority, Entry, Output, Progress, Storage, Stored
from raytes.storage.local import copy_in


@dataclass(frozen=True, slots=True)
class FoundOutput:
    """An output as it is on the node."""

    type: TesFileType
    entries: list[Entry]
    paths: dict[str, str]  # an entry's `relative` → path in the container


def find_output(
    output: TesOutput, namespace: Namespace, warn: Callable[[str], None]
) -> FoundOutput:
    """Find the files of an output.

    Raises:
        MissingOutput: there is nothing at its path.
        InvalidMounts: its `path_prefix` is no prefix of what was found.
    """
    walk = _Walk(namespace, warn)
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


@dataclass(frozen=True, slots=True)
class _Staged:
    """An output that waits for its commit."""

    index: int
    found: FoundOutput
    output: Output
    progress: Progress


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """An output that is at its URL."""

    index: int
    type: TesFileType
    files: list[TesOutputFileLog]


class StageOut:
    """The outputs of a task on their way out: all are staged, unseen, before one is committed.

    At the end of the `with` block what wasn't committed is removed. `audience` is
    told of what takes long.
    """

    def __init__(
        self,
        storage: Storage,
        authority: Authority,
        scratch: Path,
        stop: threading.Event,
        audience: Audience,
    ) -> None:
        self._storage = storage
        self._authority = authority
        self._scratch = scratch
        self._stop = stop
        self._audience = audience
        self._begun = ExitStack()
        self._staged: list[_Staged] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._begun.close()

    def stage(self, index: int, output: TesOutput, found: FoundOutput) -> None:
        """Stage the files of the output of this index.

        Raises:
            OutputFailed: a file can't be stored.
            ForbiddenURL: the URL is not one that the service may write.
            Canceled: `stop` was set.
        """
        entries = [_ours(entry, self._scratch, self._stop) for entry in found.entries]
        progress = Progress(f"the output {output.path}", self._audience)
        sizes = [os.stat(entry.source).st_size for entry in entries if entry.source]
        progress.expect(len(sizes), sum(sizes))
        going = self._storage.output(output.url, self._authority, progress)
        self._begun.callback(going.discard)
        going.stage(entries, self._stop)
        self._staged.append(_Staged(index, found, going, progress))

    def commit(self) -> Iterator[StoredOutput]:
        """Have the outputs appear, one after the other, if the attempt still counts.

        Raises:
            OutputFailed, ForbiddenURL: one can't be stored; those before it are.
            Canceled: `stop` was set, or the attempt counts no more.
        """
        if self._staged:
            self._authority.ask([])
        for one in self._staged:
            stored = one.output.commit(self._stop)
            one.progress.end()
            yield StoredOutput(one.index, one.found.type, _log(stored, one.found.paths))


class _Walk:
    """Walks container paths; says what it leaves out, and why."""

    def __init__(self, namespace: Namespace, warn: Callable[[str], None]) -> None:
        self._namespace = namespace
        self._warn = warn

    def files(self, path: str) -> Iterator[tuple[str, Path | None]]:
        """Each file at or below a container path, and each empty directory as None."""
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
            names = self._namespace.names(path)
            if not names:
                yield path, None
            for name in names:
                yield from self._files(f"{path}/{name}", (*above, identity))
        else:
            kind = _SPECIAL.get(stat.S_IFMT(status.st_mode), "a special file")
            self._warn(f"{path} is left out: it is {kind}, not a file or a directory")

    def _matching(self, directory: str, names: Sequence[str]) -> Iterator[str]:
        first, *rest = names
        try:
            there = self._namespace.names(directory)
        except (Outside, PermissionError):
            return
        for name in there:
            if matches(name, first):
                path = f"{directory.rstrip('/')}/{name}"
                if rest:
                    yield from self._matching(path, rest)
                else:
                    yield path

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
    entries: list[Entry] = []
    paths: dict[str, str] = {}
    for match in walk.matching(output.path):
        found, where = _relative(walk.files(match), output.path_prefix or "/")
        entries += found
        paths |= where
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
        entries.append(Entry(relative, host))
        paths[relative] = path
    return entries, paths


def _log(stored: Sequence[Stored], paths: Mapping[str, str]) -> list[TesOutputFileLog]:
    return [
        TesOutputFileLog(url=one.url, path=paths[one.relative], size_bytes=str(one.size_bytes))
        for one in stored
    ]


def _ours(entry: Entry, scratch: Path, stop: threading.Event) -> Entry:
    """An entry whose file may be given away: an input's original may not."""
    if entry.source is None or entry.source.is_relative_to(scratch):
        return entry
    copies = scratch / "copies"
    copies.mkdir(exist_ok=True)
    copy = copies / str(len(os.listdir(copies)))
    copy_in(entry.source, copy, stop)
    return Entry(entry.relative, copy)
