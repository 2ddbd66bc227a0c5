"""SQLite's checkpoints: what is in the log (WAL) is carried over into the database's file.

SQLite would have the writer do that in between, whenever a thousand pages have gathered, and so
keep a create waiting for the fsync of the whole file. Here a thread does it beside the writer.
The log begins anew where nobody writes while it is carried over; when it has become long, the
writer is made to wait, but only for the little that has come since.
"""

import contextlib
import logging
import sqlite3
import threading
from pathlib import Path

_EVERY_S = 1.0
_LONG = 8_192  # pages: 32 MB
_BUSY_TIMEOUT_S = 1.0

logger = logging.getLogger(__name__)


class Checkpoints:
    """Carries over, once a second, until it is stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Carry over what is left, and no more after that; it could be left in the log, and be no
        less durable, but who copies the database's file may not know of the other."""
        self._stopping.set()
        self._thread.join()
        self._carry_over(emptying=True)

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            self._carry_over()

    def _carry_over(self, *, emptying: bool = False) -> None:
        try:
            carry_over(self._path, emptying=emptying)
        except sqlite3.Error as error:  # a full disk, as a rule: the log keeps it all
            logger.warning("the log of %s was not carried over: %s", self._path, error)


def carry_over(path: Path, *, emptying: bool = False) -> None:
    """Carry over what is in the log of the database at `path`; with `emptying` leave nothing
    there, unless somebody reads all the while.

    Raises:
        sqlite3.Error: it can't be read or written now.
    """
    connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", timeout=_BUSY_TIMEOUT_S, uri=True)
    with contextlib.closing(connection):
        _, length, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if emptying:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        elif length >= _LONG:
            connection.execute("PRAGMA wal_checkpoint(RESTART)")
