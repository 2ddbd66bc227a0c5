"""The one thread that writes. Changes in flight share a transaction and its fsync."""

import logging
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from raytes.store.database import Database, DatabaseUnavailable

T = TypeVar("T")
Change = Callable[[Connection], T]

# The most changes in one transaction: more would only keep the first of them waiting.
_BATCH = 512

logger = logging.getLogger(__name__)


class Writer:
    """Makes changes, one transaction after the other.

    Parameters:
        engine: of `database`, for writing; closed with the writer.
    """

    def __init__(self, database: Database, engine: Engine) -> None:
        self._database = database
        self._engine = engine
        self._trouble = ""  # why nothing can be written; told once, as it may be long
        self._queue: queue.SimpleQueue[tuple[Change[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_on, name="writer", daemon=True)
        self._thread.start()

    def submit(self, change: Change[T]) -> Future[T]:
        """Run `change` in a transaction; the future resolves when that is on disk.

        A change must bear being run again: when another of its batch fails, the rest is
        rolled back with it and run once more without it. It is not made if the future is
        cancelled before its turn.

        Raises (through the future):
            DatabaseUnavailable: the database can't be written now.
        """
        future: Future[T] = Future()
        self._queue.put((change, future))
        return future

    def close(self) -> None:
        """Write what was submitted, then end the thread and the connections."""
        self._queue.put(None)
        self._thread.join()
        self._engine.dispose()

    def _write_on(self) -> None:
        try:
            self._run()
        except BaseException:
            # Nothing would ever be written again, and whoever submits would wait for ever.
            logger.critical("the writer failed; the process ends", exc_info=True)
            os._exit(1)

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            batch = []
            while item is not None:
                # From here on it can't be given up: whoever waits may go, the change is made.
                if item[1].set_running_or_notify_cancel():
                    batch.append(item)
                if len(batch) == _BATCH:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._write(batch)
            if item is None:
                return

    def _write(self, batch: list[tuple[Change[Any], Future[Any]]]) -> None:
        try:
            results = self._transaction([change for change, _ in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, DatabaseUnavailable):
                for item in batch:
                    self._write([item])
                return
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)

    def _transaction(self, changes: list[Change[T]]) -> list[T]:
        try:
            with self._engine.connect() as connection:
                transaction = connection.begin()
                results = [change(connection) for change in changes]
                try:
                    transaction.commit()
                except DBAPIError as error:
                    if error.connection_invalidated:
                        _in_doubt(error)
                    transaction.rollback()
                    raise
        except Exception as error:
            if (said := self._database.passing(error)) is None:
                raise
            if said != self._trouble:
                logger.warning("the database can't be written: %s", said)
            self._trouble = said
            raise DatabaseUnavailable(f"the database can't be written: {said}") from error
        if self._trouble:
            logger.warning("the database can be written again")
        self._trouble = ""
        return results


def _in_doubt(error: DBAPIError) -> None:
    """The connection broke during a commit, and nobody knows whether that happened. So whoever
    waits for its outcome must begin again from what the database has: the process ends."""
    logger.critical("the connection to the database was lost during a commit: %s", error.orig)
    os._exit(1)
