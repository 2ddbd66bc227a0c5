"""Amazon S3 and the servers that speak its protocol.

s3fs holds the session, the credentials and the options; the transfers are our own, because
its own wait for the slowest of each batch of parts, leave an upload behind when they are
cancelled, and don't notice that an object was replaced between two ranges.
"""

import asyncio
import hashlib
import mimetypes
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.session import Session
from s3fs import S3FileSystem

from raytes import __version__
from raytes.storage import checksums, conditional, faults, ranges
from raytes.storage.below import opened
from raytes.storage.conditional import write_over_seen
from raytes.storage.faults import Changed, Fault, Missing, Replaced
from raytes.storage.objects import Object, Outgoing, Staged, Unsent
from raytes.storage.parallel import in_parallel
from raytes.storage.progress import Transfer
from raytes.storage.retry import retrying
from raytes.storage.signature import OF_FSSPEC, UNCACHED, Kind, keywords, kind_of
from raytes.storage.urls import shown

_PART = 8 * 2**20
"""Bytes of one part of an upload (S3 wants 5 MiB or more), and of the largest in one piece."""

_MOST_PARTS = 10_000  # of one upload; S3's limit

_BODIES_AT_ONCE = 4
"""Bodies of more than `_SMALL` bytes in memory at once, of all files that are uploaded."""

_SMALL = 2**20

_CONNECTIONS = 32

_READ_TIMEOUT = 60
"""Seconds without a byte after which a connection is given up."""


def known_options() -> Mapping[str, Kind]:
    """s3fs' own, `profile`, which is the session's, and in tables those of botocore's
    configuration and of its client, and aiobotocore's own."""
    of_client = keywords(Session.create_client)
    for given_by_s3fs in ("service_name", "config"):
        del of_client[given_by_s3fs]
    timeouts = {"connect_timeout": float, "read_timeout": float, "max_pool_connections": float}
    defaults = {name: kind_of(each) for name, each in AioConfig.OPTION_DEFAULTS.items()}
    of_config = keywords(AioConfig.__init__) | defaults | timeouts
    tables = {"config_kwargs": of_config, "client_kwargs": of_client}
    return keywords(S3FileSystem.__init__) | OF_FSSPEC | {"profile": None} | tables


class S3Store:
    """The buckets of one S3 endpoint."""

    def __init__(self, options: dict[str, Any]) -> None:
        config = {
            "max_pool_connections": _CONNECTIONS,
            "read_timeout": _READ_TIMEOUT,
            # Retries are made in one place, `retrying`.
            "retries": {"total_max_attempts": 1},
            # botocore's own is put together anew, twice for each request.
            "user_agent": f"raytes/{__version__}",
        } | options.get("config_kwargs", {})
        # s3fs gives it only with its own transfers, before 2026.9.
        payer = {"RequestPayer": "requester"} if options.get("requester_pays") else {}
        ours = {
            "session": _session(options.get("profile")),
            "config_kwargs": config,
            "s3_additional_kwargs": payer | options.get("s3_additional_kwargs", {}),
        }
        self._filesystem = S3FileSystem(**(options | ours | UNCACHED))
        self._filesystem.retries = 1
        self._bodies = asyncio.Semaphore(_BODIES_AT_ONCE)

    async def find(self, path: str) -> Object | None:
        bucket, key = _split(path)
        if not key:
            return None
        try:
            head = await self._call("head_object", Bucket=bucket, Key=key)
        except Missing:
            return None
        return Object(path, head["ContentLength"], head.get("ETag"))

    async def find_below(self, path: str) -> list[Object]:
        try:
            return [found async for page in self._pages_below(path) for found in page]
        except Missing:
            return []

    async def get(self, found: Object, destination: Path, transfer: Transfer) -> None:
        reading = _Reading(self._filesystem, found)
        if found.size > ranges.SIZE:
            reading.checksums = await self._checksums(found)
        await ranges.get_ranges(found, destination, transfer, reading.opened, _fault_of)
        await checksums.compare(destination, reading.checksums)

    async def stage(self, file: Outgoing) -> Staged:
        bucket, key = _split(file.path)
        if not key:
            raise Fault("it names a bucket, and a file needs a key in it")
        size = os.stat(file.source).st_size
        described = {"Bucket": bucket, "Key": key}
        if content_type := mimetypes.guess_type(key)[0]:
            described["ContentType"] = content_type
        if size <= _PART:
            put = partial(self._put, file, size, described)
            return Unsent(lambda: write_over_seen(file, self.find, put))
        return await self._begin_upload(file, size, described)

    async def revoke(self, path: str, token: str) -> None:
        bucket, key = _split(path)
        with suppress(Missing):
            await self._call("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=token)

    async def tidy(self, aside: str) -> None:
        """Nothing: an upload has no directory."""

    async def versions_below(self, path: str, most: int) -> Mapping[str, str]:
        found: dict[str, str] = {}
        with suppress(Fault):  # who may write need not be allowed to look
            async for page in self._pages_below(path):
                found |= {one.path: one.version or "" for one in page}
                if len(found) >= most:
                    break
        return found

    async def mark(self, path: str) -> None:
        bucket, key = _split(path)
        if key.rstrip("/"):
            await self._call("put_object", Bucket=bucket, Key=f"{key.rstrip('/')}/", Body=b"")

    async def _pages_below(self, path: str) -> AsyncIterator[list[Object]]:
        bucket, key = _split(path)
        prefix = key if not key or key.endswith("/") else f"{key}/"
        continued: dict[str, str] = {}
        while True:
            page = await self._call("list_objects_v2", Bucket=bucket, Prefix=prefix, **continued)
            yield [
                Object(f"{bucket}/{item['Key']}", item["Size"], item.get("ETag"))
                for item in page.get("Contents", ())
            ]
            if not page.get("IsTruncated"):  # some servers leave it out where it is false
                return
            if not (token := page.get("NextContinuationToken")):
                raise Fault("its store's list goes on, and the store doesn't say how to go on")
            continued = {"ContinuationToken": token}

    async def _checksums(self, found: Object) -> dict[str, str]:
        """The checksums that the store keeps of the whole of an object, if any."""
        # Not asked for when it is looked for: of an encrypted one the store tells them only to
        # those who may read it, and outputs are looked for too.
        return _checksums_of(
            await self._call("head_object", **_version(found), ChecksumMode="ENABLED")
        )

    async def _put(
        self, file: Outgoing, size: int, described: dict[str, str], seen: str | None
    ) -> None:
        match seen:
            case None:
                condition = {}
            case conditional.NOTHING:
                condition = {"IfNoneMatch": "*"}
            case _:
                condition = {"IfMatch": seen}
        with opened(file.source) as data:
            try:
                await self._send("put_object", data.fileno(), range(size), described | condition)
            except Missing:
                if seen:
                    raise Replaced from None  # somebody has removed it
                raise Fault(
                    "the store answered 404 (Not Found); is it at its section's `endpoint_url`?"
                ) from None
        file.transfer.moved(size)

    async def _begin_upload(
        self, file: Outgoing, size: int, described: dict[str, str]
    ) -> "_Upload":
        begun = await self._call("create_multipart_upload", **described)
        name = {
            "Bucket": described["Bucket"],
            "Key": described["Key"],
            "UploadId": begun["UploadId"],
        }
        try:
            # First, so that whatever ends this attempt, the next one can end the upload.
            await file.announce(begun["UploadId"])
            parts = await self._upload_parts(file.source, size, name, file.transfer)
        except BaseException:
            await self.abort(name)  # also when cancelled
            raise
        return _Upload(self, name, parts)

    async def complete(self, name: dict[str, str], parts: Sequence[dict[str, Any]]) -> None:
        """Has the object of a multipart upload appear."""
        try:
            await self._call("complete_multipart_upload", **name, MultipartUpload={"Parts": parts})
        except Missing:
            # The answer to an attempt that succeeded may have been lost on its way.
            found = await self.find(f"{name['Bucket']}/{name['Key']}")
            if found is None or found.version != _tag_of(parts):
                raise Fault("somebody else has ended its upload", elsewhere=True) from None

    async def abort(self, name: dict[str, str]) -> None:
        """End a multipart upload: one that nobody ends is stored, and paid for, for ever."""
        with suppress(Exception):
            await self._filesystem._call_s3("abort_multipart_upload", **name)

    async def _upload_parts(
        self, source: Path, size: int, name: dict[str, str], transfer: Transfer
    ) -> list[dict[str, Any]]:
        length = max(_PART, -(-size // _MOST_PARTS))
        parts: dict[int, dict[str, Any]] = {}
        with opened(source) as file:

            async def upload(number: int) -> None:
                span = range((number - 1) * length, min(number * length, size))
                part = await self._send(
                    "upload_part", file.fileno(), span, {**name, "PartNumber": number}
                )
                parts[number] = {"PartNumber": number, **_checks(part)}
                transfer.moved(len(span))

            numbers = range(1, -(-size // length) + 1)
            await in_parallel(numbers, upload, limit=_BODIES_AT_ONCE)
        return [parts[number] for number in sorted(parts)]

    async def _send(
        self, method: str, file: int, span: range, parameters: dict[str, Any]
    ) -> dict[str, Any]:
        async with self._bodies if len(span) > _SMALL else nullcontext():
            body = await asyncio.to_thread(os.pread, file, len(span), span.start)
            if len(body) != len(span):
                raise Changed
            return await self._call(method, **parameters, Body=body)

    async def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        async def attempt() -> dict[str, Any]:
            answer: dict[str, Any] = await self._filesystem._call_s3(method, **parameters)
            return answer

        return await retrying(attempt, _fault_of)


@dataclass(slots=True)
class _Reading:
    """One version of an object, read in ranges."""

    filesystem: S3FileSystem
    found: Object
    checksums: dict[str, str] = field(default_factory=dict)
    """Those of the whole that the store has told and nobody has verified yet."""

    @asynccontextmanager
    async def opened(self, start: int, end: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of a range, as `ranges.OpenRange`."""
        wanted = _version(self.found)
        whole = (start, end) == (0, self.found.size)
        if not whole:
            wanted["Range"] = f"bytes={start}-{end - 1}"
        answer = await self.filesystem._call_s3("get_object", **wanted)
        if whole:
            self.checksums = _checksums_of(answer)
        async with answer["Body"] as body:
            if answer["ContentLength"] != end - start:
                raise Fault("the store sent another range of bytes than it was asked for")
            yield _pieces(body)
        if whole:  # botocore has asked for its checksums, and verified them as it was read
            self.checksums = {}


async def _pieces(body: Any) -> AsyncIterator[bytes]:
    while piece := await body.read(ranges.PIECE):
        yield piece


@dataclass(frozen=True, slots=True)
class _Upload:
    """A multipart upload with all its parts."""

    store: S3Store
    name: dict[str, str]
    parts: Sequence[dict[str, Any]]

    async def commit(self) -> None:
        await self.store.complete(self.name, self.parts)

    async def discard(self) -> None:
        await self.store.abort(self.name)


def _session(profile: str | None) -> AioSession:
    """A session that leaves the times in answers as they are.

    Nothing here looks at them, and botocore itself, which wants to know when credentials that it
    has asked for expire, takes them as text too.
    """
    session = AioSession(profile=profile)
    factory = session.get_component("response_parser_factory")
    factory.set_parser_defaults(timestamp_parser=str)
    return session


def _split(path: str) -> tuple[str, str]:
    bucket, _, key = path.partition("/")
    return bucket, key


def _version(found: Object) -> dict[str, str]:
    """The parameters that name an object as it was found."""
    bucket, key = _split(found.path)
    condition = {"IfMatch": found.version} if found.version else {}
    return {"Bucket": bucket, "Key": key} | condition


def _checksums_of(answer: dict[str, Any]) -> dict[str, str]:
    if answer.get("ChecksumType") == "COMPOSITE":  # of the checksums of an upload's parts
        return {}
    return {
        name.removeprefix("Checksum"): value
        for name, value in answer.items()
        if name.startswith("Checksum") and isinstance(value, str) and "-" not in value
    }


def _checks(part: dict[str, Any]) -> dict[str, str]:
    """What the store says of a part, and wants to hear again when the upload is completed."""
    return {
        name: value
        for name, value in part.items()
        if name == "ETag" or (name.startswith("Checksum") and isinstance(value, str))
    }


def _tag_of(parts: Sequence[dict[str, Any]]) -> str | None:
    """The ETag of the object that an upload of these parts makes, if theirs are MD5 sums.

    Their hex digits are all that tells. If they are something else, no object has this ETag.
    """
    try:
        sums = b"".join(bytes.fromhex(part["ETag"].strip('"')) for part in parts)
    except ValueError:
        return None
    return f'"{hashlib.md5(sums, usedforsecurity=False).hexdigest()}-{len(parts)}"'


def _fault_of(error: Exception) -> Fault:
    # s3fs raises OSErrors; what the store said is behind them.
    cause = error.__cause__ if isinstance(error.__cause__, ClientError) else error
    match cause:
        case ClientError():
            return _refusal(cause.response)
        case NoCredentialsError():
            return Fault(
                "there are no credentials for it: set `key` and `secret`, or `anon = true`, in "
                "the section [storage] of its URL, or AWS's own environment variables"
            )
        case FlexibleChecksumError():
            return checksums.Corrupt()
        case HTTPClientError() | BotoConnectionError() | IncompleteReadError():
            endpoint = shown(str(cause.kwargs.get("endpoint_url", "the store")))
            return Fault(
                f"the connection to {endpoint} failed ({type(cause).__name__})", passing=True
            )
        case BotoCoreError():
            return Fault(str(cause))
        case _:
            return faults.fault_of(error)


def _refusal(response: dict[str, Any]) -> Fault:
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(response["Error"].get("Code", ""))
    match code:
        case "NoSuchKey" | "NoSuchUpload" | "NotFound":
            return Missing()
        case "NoSuchBucket":
            return Fault("its bucket doesn't exist")
        case "PreconditionFailed" | "412" | "304":
            return Replaced()
        case "ConditionalRequestConflict":
            return Fault(f"the store answered {code}", passing=True)
        case "SlowDown" | "RequestTimeout" | "InternalError" | "ServiceUnavailable":
            return Fault(f"the store answered {code}", passing=True)
        case _:
            # The code of an answer without a body is its status.
            return faults.of_status(status, "" if code.isdigit() else code)
