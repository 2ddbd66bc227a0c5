"""Storing an output in one go, as an attempt does that nobody has given up."""

import itertools
import threading
from collections.abc import Sequence

from raytes.storage import Authority, Entry, Output, Progress, Storage, Stored

_attempts = itertools.count(1)


def authority() -> Authority:
    """An attempt that always may store its outputs."""
    return Authority("task", next(_attempts), lambda receipts: None)


def discard(output: Output) -> None:
    """Discard an output, and wait until that is done."""
    if removal := output.discard():
        removal.result(timeout=30)


def publish(
    storage: Storage,
    entries: Sequence[Entry],
    url: str,
    stop: threading.Event,
    *,
    progress: Progress | None = None,
) -> list[Stored]:
    """Stage an output, commit it, and leave nothing else behind."""
    output = storage.output(url, authority(), progress)
    try:
        output.stage(entries, stop)
        return output.commit(stop)
    finally:
        discard(output)
