"""Google Cloud Storage."""

import asyncio
import json
import mimetypes
import secrets
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote

# Not gcsfs.GCSFileSystem: that one first asks Google's gRPC endpoint for each bucket's kind,
# which an emulator doesn't have.
from gcsfs.core import GCSFileSystem, upload_chunk
from gcsfs.retry import HttpError
from google.auth.exceptions import DefaultCredentialsError, TransportError

from raytes.storage import faults
from raytes.storage.conditional import write_over_seen
from raytes.storage.faults import Fault, Replaced
from raytes.storage.objects import FsspecStore, Outgoing
from raytes.storage.retry import retrying

_PART = 16 * 2**20
"""Bytes of one part of a large object; four are in memory at once while it is fetched."""

_SMALL = 5 * 2**20
"""Bytes of the largest object that is sent in one request."""

_UPLOADS_AT_ONCE = 8  # each with one part in memory


class GcsStore(FsspecStore):
    """Buckets of Google Cloud Storage, or of a server with its JSON API."""

    get_options = {"chunk_size": _PART, "max_prefetch_size": 2 * _PART}  # noqa: RUF012

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(
            GCSFileSystem(**options, use_listings_cache=False, skip_instance_cache=True)
        )
        self._uploads = asyncio.Semaphore(_UPLOADS_AT_ONCE)

    def fault_of(self, error: Exception) -> Fault:
        match error:
            case FileExistsError():  # 412, whatever the condition was
                return Replaced()
            case HttpError() if error.code:
                return faults.of_status(int(error.code), str(error.message))
            case TransportError():
                return Fault("the credentials' server can't be reached", passing=True)
            case DefaultCredentialsError():
                return Fault("there are no credentials for it")
            case OSError() if str(error).startswith("Forbidden"):
                return faults.of_status(403)
            case _:
                return super().fault_of(error)

    async def _send(self, file: Outgoing) -> None:
        async with self._uploads:
            await write_over_seen(file, self.find, partial(self._put, file))

    async def _put(self, file: Outgoing, seen: str | None) -> None:
        await retrying(lambda: self._upload(file, seen), self.fault_of)

    async def _upload(self, file: Outgoing, seen: str | None) -> None:
        """gcsfs' own upload knows of no version but the one that isn't there."""
        file.transfer.restart()
        size = file.source.stat().st_size
        kind = mimetypes.guess_type(file.path)[0] or "application/octet-stream"
        condition = {} if seen is None else {"ifGenerationMatch": seen or "0"}
        if size <= _SMALL:
            await self._send_whole(file, kind, condition)
            file.transfer.moved(size)
        else:
            await self._send_parts(file, size, kind, condition)

    async def _send_whole(self, file: Outgoing, kind: str, condition: dict[str, str]) -> None:
        bucket, _, key = file.path.partition("/")
        boundary = secrets.token_hex(16)
        body = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
            f"{json.dumps({'name': key})}\r\n--{boundary}\r\nContent-Type: {kind}\r\n\r\n"
        ).encode()
        body += file.source.read_bytes() + f"\r\n--{boundary}--".encode()
        headers = {"Content-Type": f'multipart/related; boundary="{boundary}"'}
        await self._filesystem._call(
            "POST",
            self._uploads_to(bucket),
            uploadType="multipart",
            headers=headers,
            data=body,
            **condition,
        )

    async def _send_parts(
        self, file: Outgoing, size: int, kind: str, condition: dict[str, str]
    ) -> None:
        bucket, _, key = file.path.partition("/")
        answer, _ = await self._filesystem._call(
            "POST",
            self._uploads_to(bucket),
            uploadType="resumable",
            name=key,
            headers={"X-Upload-Content-Type": kind},
            **condition,
        )
        session = str(answer["Location"])
        try:
            with file.source.open("rb") as data:
                while piece := data.read(_PART):
                    start = data.tell() - len(piece)
                    await upload_chunk(self._filesystem, session, piece, start, size, kind)
                    file.transfer.moved(len(piece))
        except BaseException:
            with suppress(Exception):
                await self._filesystem._call("DELETE", session)
            raise

    def _uploads_to(self, bucket: str) -> str:
        return f"{self._filesystem._location}/upload/storage/v1/b/{quote(bucket)}/o"
