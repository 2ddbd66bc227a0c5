"""Google Cloud Storage.

gcsfs holds the session and the credentials; the transfers are our own, because its own ask for
each object five times before they fetch it, don't notice that it was replaced between two
ranges, and wait five minutes for a server that has stopped answering.
"""

import asyncio
import json
import mimetypes
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

# Not gcsfs.GCSFileSystem: that one first asks Google's gRPC endpoint for each bucket's kind,
# which an emulator doesn't have.
from gcsfs.core import GCSFileSystem, upload_chunk
from gcsfs.retry import HttpError, validate_response
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError
from requests.exceptions import ProxyError, RequestException

from raytes.storage import checksums, faults, ranges
from raytes.storage.aiohttp_options import OF_SESSION, as_objects
from raytes.storage.below import opened
from raytes.storage.conditional import write_over_seen
from raytes.storage.faults import Changed, Fault, Missing, Replaced
from raytes.storage.objects import Object, Outgoing, UnstagedWrites
from raytes.storage.progress import Transfer
from raytes.storage.retry import retrying
from raytes.storage.signature import OF_FSSPEC, UNCACHED, Kind, keywords

_PART = 16 * 2**20
"""Bytes of one part of a large object that is stored."""

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)

_SMALL = 5 * 2**20
"""Bytes of the largest object that is sent in one request."""

_UPLOADS_AT_ONCE = 8  # each with one part in memory


@dataclass(frozen=True, slots=True)
class GcsObject(Object):
    """An object with the checksum that Google keeps of it."""

    crc32c: str | None = None  # in base64


def known_options() -> Mapping[str, Kind]:
    """Those of gcsfs, and of aiohttp's session."""
    own = keywords(GCSFileSystem.__init__) | OF_FSSPEC
    # True, or the project that pays.
    return own | {"requester_pays": None, "session_kwargs": OF_SESSION}


class _FileSystem(GCSFileSystem):  # type: ignore[misc]
    """gcsfs without its own six tries of each request: they are made in one place, `retrying`."""

    _request = GCSFileSystem._request.__wrapped__


class GcsStore(UnstagedWrites):
    """Buckets of Google Cloud Storage, or of a server with its JSON API."""

    def __init__(self, options: dict[str, Any]) -> None:
        session = {"timeout": _TIMEOUT} | as_objects(options.get("session_kwargs", {}))
        self._filesystem = _FileSystem(**(options | {"session_kwargs": session} | UNCACHED))
        self._uploads = asyncio.Semaphore(_UPLOADS_AT_ONCE)

    async def find(self, path: str) -> Object | None:
        bucket, _, key = path.partition("/")
        if not key:
            return None
        try:
            found = await self._call("GET", "b/{}/o/{}", bucket, key, json_out=True)
        except Missing:
            return None
        return _object(path, found)

    async def find_below(self, path: str) -> list[Object]:
        directory = path.rstrip("/")
        try:
            found = await retrying(
                lambda: self._filesystem._find(directory, detail=True), _fault_of
            )
        except Missing:
            return []
        return [
            _object(name, info) for name, info in found.items() if name.startswith(f"{directory}/")
        ]

    async def get(self, found: Object, destination: Path, transfer: Transfer) -> None:
        open_range = partial(self._opened, found)
        await ranges.get_ranges(found, destination, transfer, open_range, _fault_of)
        if isinstance(found, GcsObject) and found.crc32c:
            await checksums.compare(destination, {"CRC32C": found.crc32c})

    async def mark(self, path: str) -> None:
        marker = f"{path.rstrip('/')}/"
        await retrying(lambda: self._filesystem._pipe_file(marker, b""), _fault_of)

    @asynccontextmanager
    async def _opened(
        self, found: Object, start: int, end: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        filesystem = self._filesystem
        await filesystem._set_session()
        # The bytes as they are stored: what was stored compressed stays so.
        wanted = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "gzip"}
        async with filesystem.session.get(
            filesystem.url(found.path),
            params=filesystem._get_params({"ifGenerationMatch": found.version}),
            headers=filesystem._get_headers(wanted),
            auto_decompress=False,
        ) as answer:
            if not answer.ok:
                validate_response(answer.status, await answer.read(), found.path)
            if answer.headers.get("x-goog-generation", found.version) != found.version:
                raise Replaced
            if answer.content_length != end - start:
                raise Fault("the store sent another range of bytes than it was asked for")
            yield answer.content.iter_chunked(ranges.PIECE)

    async def _send(self, file: Outgoing) -> None:
        async with self._uploads:
            await write_over_seen(file, self.find, partial(self._upload, file))

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
        with opened(file.source) as data:
            body += data.read() + f"\r\n--{boundary}--".encode()
        headers = {"Content-Type": f'multipart/related; boundary="{boundary}"'}
        await self._call(
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
        answer, _ = await self._call(
            "POST",
            self._uploads_to(bucket),
            uploadType="resumable",
            name=key,
            headers={"X-Upload-Content-Type": kind},
            **condition,
        )
        session = str(answer["Location"])
        sent = 0
        try:
            with opened(file.source) as data:
                while piece := data.read(min(_PART, size - sent)):
                    send = partial(upload_chunk, self._filesystem, session, piece, sent, size, kind)
                    # What the store has already, it leaves out.
                    await retrying(send, _fault_of)
                    sent += len(piece)
                    file.transfer.moved(len(piece))
            if sent != size:  # and the store waits for the rest
                raise Changed
        except BaseException:
            with suppress(Exception):
                await self._filesystem._call("DELETE", session)
            raise

    async def _call(self, method: str, path: str, *names: str, **parameters: Any) -> Any:
        call = partial(self._filesystem._call, method, path, *names, **parameters)
        return await retrying(call, _fault_of)

    def _uploads_to(self, bucket: str) -> str:
        return f"{self._filesystem._location}/upload/storage/v1/b/{quote(bucket)}/o"


def _object(path: str, resource: Mapping[str, Any]) -> Object:
    """An object as the JSON API describes it."""
    size, generation = int(resource["size"]), str(resource["generation"])
    return GcsObject(path, size, generation, resource.get("crc32c"))


def _fault_of(error: Exception) -> Fault:
    """The fault behind an exception that gcsfs raised."""
    match error:
        case FileExistsError():  # 412, whatever the condition was
            return Replaced()
        case HttpError() if error.code:
            fault = faults.of_status(int(error.code), str(error.message))
            # A token that ended on its way; the next request has another.
            if "Invalid Credentials" in str(fault):
                return Fault(str(fault), passing=True)
            return fault
        case ProxyError():  # what gcsfs makes of 502
            return faults.of_status(502)
        case TransportError() | RefreshError():
            # Some servers of metadata refuse for a moment, so a refusal isn't final either.
            return Fault(
                f"the credentials' server gave none ({type(error).__name__})", passing=True
            )
        case RequestException():  # from the credentials' library, which speaks with requests
            return Fault(f"the connection failed ({type(error).__name__})", passing=True)
        case DefaultCredentialsError():
            return Fault("there are no credentials for it")
        case OSError() if str(error).startswith("Forbidden"):
            return faults.of_status(403)
        case _:
            return faults.fault_of(error)
