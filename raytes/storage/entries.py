"""What of a task's output is found on the node, and what becomes of it in its store."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, or one empty directory, of an output."""

    relative: str  # the path below the output's URL; "" for a single file
    source: Path | None  # a regular file without links in its path; None: a directory
    is_original: bool = False
    """The file stays where it is, as an input's does; else it may be given away."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One file of an output that is now at its URL."""

    relative: str
    url: str
    size_bytes: int


class Output(Protocol):
    """One output on its way: staged first, where nobody sees it, then committed.

    Between the two, whoever stores it asks whether it may still appear.
    """

    def stage(self, entries: Sequence[Entry], stop: threading.Event) -> None:
        """Has the bytes as near to their place as the store lets them be unseen.

        Raises:
            OutputFailed: a file can't be stored.
            ForbiddenURL: the URL is not one that the service may write.
            Canceled: `stop` was set, or the attempt counts no more.
        """

    def commit(self, stop: threading.Event) -> list[Stored]:
        """Has each file appear, whole or not at all, in place of what was there.

        Raises:
            OutputFailed: a file can't be stored; those that appeared by then stay.
            ForbiddenURL: the URL is not one that the service may write.
            Canceled: `stop` was set, or the attempt counts no more.
        """

    def discard(self) -> Future[None] | None:
        """Removes what is staged and was not committed, as far as it can be.

        What takes its time goes on, until the future is done.
        """
