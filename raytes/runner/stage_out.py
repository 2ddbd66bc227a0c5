"""Stage-out: the outputs of a task stored, all of them unseen before one appears."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from raytes.models import TesFileType, TesOutput, TesOutputFileLog
from raytes.runner.concurrently import concurrently
from raytes.runner.outputs import FoundOutput
from raytes.storage import Audience, Authority, Entry, Output, Progress, Storage, Stored
from raytes.storage.local import copy_in

_AT_ONCE: Final = 8  # outputs of one task; each of them may be a directory


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """An output that is at its URL."""

    index: int
    type: TesFileType
    files: list[TesOutputFileLog]


@dataclass(slots=True)
class _Going:
    """An output on its way."""

    index: int
    output: TesOutput
    found: FoundOutput
    entries: list[Entry]
    place: str
    """Where it goes: what lies in one place begins with the same, and is stored in its order."""
    staged: Output | None = None
    stored: StoredOutput | None = None


class StageOut:
    """The outputs of a task on their way out: all are staged, unseen, before one is committed.

    At the end of the `with` block what wasn't committed is removed. `audience` is told of what
    takes long.
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
        self._going: list[_Going] = []
        self._progress = Progress()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._begun.close()

    def add(self, index: int, output: TesOutput, found: FoundOutput) -> None:
        """Have the output of this index among those that are stored.

        Raises:
            ForbiddenURL: its URL is not one that the service may write.
            Canceled: `stop` was set.
        """
        entries = [_ours(entry, self._scratch, self._stop) for entry in found.entries]
        # What is on this node is one place: two outputs may hold the same file, and the second
        # has to see that the first has taken it.
        is_local = self._storage.local_path(output.url) is not None
        place = "" if is_local else f"{output.url.rstrip('/')}/"
        self._going.append(_Going(index, output, found, entries, place))

    def stage(self) -> None:
        """Stage the files of all outputs.

        Raises:
            OutputFailed: a file can't be stored; the outputs that are staged can be committed.
            Canceled: `stop` was set, or the attempt counts no more.
        """
        if not self._going:
            return
        one = f"the output {self._going[0].output.path}"
        what = one if len(self._going) == 1 else "the outputs"
        self._progress = Progress(what, self._audience, parts=len(self._going))
        for going in self._going:
            sizes = [os.stat(entry.source).st_size for entry in going.entries if entry.source]
            self._progress.expect(len(sizes), sum(sizes))
        self._for_each(self._stage)

    def commit(self) -> Iterator[StoredOutput]:
        """Have what is staged appear, if the attempt still counts.

        Raises:
            OutputFailed: one can't be stored; those that are have been yielded.
            Canceled: `stop` was set, or the attempt counts no more.
        """
        if any(one.staged for one in self._going):
            self._authority.ask([])
        try:
            self._for_each(self._commit)
            self._progress.end()
        finally:
            yield from (one.stored for one in self._going if one.stored)

    def _for_each(self, step: Callable[[_Going, threading.Event], None]) -> None:
        def in_turn(lane: Sequence[_Going], stop: threading.Event) -> None:
            for one in lane:
                step(one, stop)

        lanes = _lanes(self._going)
        if len(lanes) == 1:
            in_turn(lanes[0], self._stop)
        else:
            concurrently(lanes, in_turn, self._stop, limit=_AT_ONCE)

    def _stage(self, one: _Going, stop: threading.Event) -> None:
        output = self._storage.output(one.output.url, self._authority, self._progress)
        self._begun.callback(output.discard)
        output.stage(one.entries, stop)
        one.staged = output

    def _commit(self, one: _Going, stop: threading.Event) -> None:
        if one.staged:
            files = _log(one.staged.commit(stop), one.found.paths)
            one.stored = StoredOutput(one.index, one.found.type, files)


def _lanes(all_going: Sequence[_Going]) -> list[list[_Going]]:
    """What can be stored at once, each with what has to wait for it."""
    lanes: dict[str, list[_Going]] = {}
    place = None
    for one in sorted(all_going, key=lambda one: one.place):
        if place is None or not (place and one.place.startswith(place)):
            place = one.place
        lanes.setdefault(place, []).append(one)
    return [sorted(lane, key=lambda one: one.index) for lane in lanes.values()]


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
