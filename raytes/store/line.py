"""Creates over a Unix socket: the short way from a replica to the store on its node.

A call of a Ray actor takes more than a millisecond and costs either side 0.6 ms of CPU; a message
over a socket takes a twentieth of that. Clients wait for creates, and there are many: so they go
this way while it is there. All else goes by Ray, and so do creates when the line is broken or
the store has something to say: what comes twice is stored once.

A message is its length (4 bytes, big-endian) and JSON. One way go tasks, the other way the ids
of those that were refused, or null where none was stored.
"""

import asyncio
import contextlib
import logging
import struct
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from raytes.config import Settings
from raytes.store.documents import NewTask
from raytes.surroundings import runtime_path

_LENGTH = struct.Struct(">I")

Create = Callable[[Sequence[NewTask]], Awaitable[frozenset[str]]]

logger = logging.getLogger(__name__)


def _path(settings: Settings) -> Path:
    # Only the service's user can enter the directory.
    return runtime_path(settings.state_dir) / f"{settings.name}.store"


class Exchange:
    """The store's end of all lines."""

    def __init__(self, settings: Settings, create: Create) -> None:
        self._path = _path(settings)
        self._create = create
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Begin to answer; nobody calls where this isn't the node that serves."""
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path)
        except OSError as error:  # no harm: there is the longer way
            logger.warning("creates go by Ray: %s can't be listened on: %s", self._path, error)

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                tasks = [_task(fields) for fields in orjson.loads(await _received(reader))]
                _send(writer, await self._answer(tasks))
                await writer.drain()

    async def _answer(self, tasks: Sequence[NewTask]) -> bytes:
        try:
            return orjson.dumps(list(await self._create(tasks)))
        except Exception as error:  # whatever it is, the caller hears of it by Ray
            logger.warning("tasks were not created: %s", error)
            return b"null"


class Line:
    """A replica's end of its line. For one call at a time."""

    def __init__(self, settings: Settings) -> None:
        self._path = _path(settings)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def create(self, tasks: Sequence[NewTask]) -> frozenset[str] | None:
        """Store tasks durably and queue them, as `Store.create` does; None if they may not
        have been stored."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_unix_connection(self._path)
            reader, writer = self._streams
            _send(writer, orjson.dumps(tasks, default=bytes.decode))
            await writer.drain()
            refused = orjson.loads(await _received(reader))
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return None
        return None if refused is None else frozenset(refused)

    def close(self) -> None:
        """Hang up; the next call dials again."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _send(writer: asyncio.StreamWriter, message: bytes) -> None:
    writer.write(_LENGTH.pack(len(message)) + message)


async def _received(reader: asyncio.StreamReader) -> bytes:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return await reader.readexactly(length)


def _task(fields: dict[str, Any]) -> NewTask:
    """The task of which orjson has made `fields`, and text of its bytes."""
    contents = fields["contents"]
    return NewTask(
        **{
            **fields,
            "document": fields["document"].encode(),
            "contents": contents and contents.encode(),
            "warnings": tuple(fields["warnings"]),
        }
    )
