"""Stage-out: the outputs of a task stored, all of them unseen before one appears."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from raytes.errors import SystemFault
from raytes.models import TesFileType, TesOutput, TesOutputFileLog
from raytes.runner.concurrently import concurrently
from raytes.runner.outputs import FoundOutput
from raytes.storage import Audience, Authority, Entry, Output, Progress, Storage, Stored

_AT_ONCE: Final = 8  # outputs of one task; each of them may be a directory

_REMOVAL: Final = 5.0
"""Seconds that the removal of what was staged may take before the attempt's end is told."""


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
    place: str | None
    """Where it goes: what lies in it begins with the same. None: on this node."""
    staged: Output | None = None
    stored: StoredOutput | None = None
    fault: SystemFault | None = None


class StageOut:
    """The outputs of a task on their way out: all are staged, unseen, before one is committed.

    What keeps one from being stored keeps none of the others. At the end of the `with` block what
    wasn't committed is removed. `audience` is told of what takes long.
    """

    def __init__(
        self,
        storage: Storage,
        authority: Authority,
        scratch: Path,
        stop: threading.Event,
        audience: Audience,
    ) -> None:
        """`scratch` is where the files lie that may be given away."""
        self._storage = storage
        self._authority = authority
        self._scratch = scratch
        self._stop = stop
        self._audience = audience
        self._begun: list[Output] = []
        self._going: list[_Going] = []
        self._progress = Progress()

    @property
    def stored(self) -> list[StoredOutput]:
        """Those that are at their URLs by now."""
        return [one.stored for one in self._going if one.stored]

    @property
    def faults(self) -> list[SystemFault]:
        """What kept the others from it."""
        return [one.fault for one in self._going if one.fault]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        removals = [removal for output in self._begun if (removal := output.discard())]
        futures.wait(removals, timeout=_REMOVAL)

    def add(self, index: int, output: TesOutput, found: FoundOutput) -> None:
        """Have the output of this index, the highest by now, among those that are stored.

        Raises:
            ForbiddenURL: its URL is not one that the service may write.
        """
        entries = [self._marked(entry) for entry in found.entries]
        is_local = self._storage.local_path(output.url) is not None
        place = None if is_local else f"{output.url.rstrip('/')}/"
        self._going.append(_Going(index, output, found, entries, place))

    def stage(self) -> None:
        """Stage the files of all outputs.

        Raises:
            Canceled: `stop` was set, or the attempt counts no more.
        """
        if not self._going:
            return
        one = f"the output {self._going[0].output.path}"
        what = one if len(self._going) == 1 else "the outputs"
        self._progress = Progress(what, self._audience, parts=len(self._going))
        for going in self._going:
            sizes = [_size(entry.source) for entry in going.entries if entry.source]
            self._progress.expect(len(sizes), sum(sizes))
        self._for_each(self._stage)

    def commit(self) -> None:
        """Have what is staged appear, if the attempt still counts.

        Raises:
            Canceled: `stop` was set, or the attempt counts no more.
        """
        if any(one.staged for one in self._going):
            self._authority.ask([])
        self._for_each(self._commit)
        if not self.faults:
            self._progress.end()

    def _for_each(self, step: Callable[[_Going, threading.Event], None]) -> None:
        def in_turn(lane: Sequence[_Going], stop: threading.Event) -> None:
            for one in lane:
                try:
                    step(one, stop)
                except SystemFault as fault:
                    one.fault = fault

        lanes = _lanes(self._going)
        if len(lanes) <= 1:
            for lane in lanes:
                in_turn(lane, self._stop)
        else:
            concurrently(lanes, in_turn, self._stop, limit=_AT_ONCE)

    def _stage(self, one: _Going, stop: threading.Event) -> None:
        output = self._storage.output(one.output.url, self._authority, self._progress)
        self._begun.append(output)
        output.stage(one.entries, stop)
        one.staged = output

    def _commit(self, one: _Going, stop: threading.Event) -> None:
        if one.staged:
            files = _log(one.staged.commit(stop), one.found.paths)
            one.stored = StoredOutput(one.index, one.found.type, files)

    def _marked(self, entry: Entry) -> Entry:
        is_original = not (entry.source is None or entry.source.is_relative_to(self._scratch))
        return Entry(entry.relative, entry.source, is_original)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # another task has removed it: whoever stores it says so
        return 0


def _lanes(all_going: Sequence[_Going]) -> list[list[_Going]]:
    """What can be stored at once, each with what has to wait for it.

    What is on this node is one lane: two outputs may hold the same file, and the second has to
    see that the first has taken it. So is what lies in one place: the later output stays.
    """
    local = [one for one in all_going if one.place is None]
    lanes: list[list[_Going]] = []
    place = ""
    remote = ((one.place, one) for one in all_going if one.place is not None)
    for path, one in sorted(remote, key=lambda pair: pair[0]):
        if place and path.startswith(place):
            lanes[-1].append(one)
        else:
            place = path
            lanes.append([one])
    lanes = [sorted(lane, key=lambda one: one.index) for lane in lanes]
    return [local, *lanes] if local else lanes


def _log(stored: Sequence[Stored], paths: Mapping[str, str]) -> list[TesOutputFileLog]:
    return [
        TesOutputFileLog(url=one.url, path=paths[one.relative], size_bytes=str(one.size_bytes))
        for one in stored
    ]
