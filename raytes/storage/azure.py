"""Azure Blob Storage and Data Lake Storage.

adlfs holds the account and its credentials; the transfers are those of Azure's own library,
which notices that a blob was replaced between two ranges.
"""

import asyncio
import base64
import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from adlfs import AzureBlobFileSystem
from azure.core import MatchConditions
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.storage.blob import ContentSettings

from raytes.storage import checksums, conditional, faults
from raytes.storage.below import opened
from raytes.storage.conditional import write_over_seen
from raytes.storage.faults import Fault, Missing, Replaced
from raytes.storage.objects import Object, Outgoing, Staged, UnstagedWrites, check_size
from raytes.storage.progress import Transfer
from raytes.storage.retry import retrying
from raytes.storage.signature import OF_FSSPEC, UNCACHED, Kind, keywords

_TIMEOUTS = {"connection_timeout": 20, "read_timeout": 60}  # seconds without a byte
_RANGES_AT_ONCE = 8
_UPLOADS_AT_ONCE = 4
"""Files of more than `_SMALL` bytes that are uploaded at once."""

_SMALL = 2**20

_BLOCKS_AT_ONCE = 4  # of each file that is uploaded

_WHOLE = 8 * 2**20
"""Bytes of the largest file that is in memory whole, to be sent in one request."""

_FOLDER = {"hdi_isfolder": "true"}
"""The metadata that make an empty blob stand for a directory, by Azure's own convention."""


_CREDENTIALS = (
    "broker", "cli", "developer_cli", "environment", "managed_identity", "powershell",
    "shared_token_cache", "visual_studio_code", "workload_identity",
)  # fmt: skip

_OF_IDENTITY: dict[str, Kind] = {
    "authority": None,
    "managed_identity_client_id": None,
    "process_timeout": float,
    "require_envvar": bool,
    "shared_cache_tenant_id": None,
    "shared_cache_username": None,
    "visual_studio_code_tenant_id": None,
    "workload_identity_client_id": None,
    "workload_identity_tenant_id": None,
    **{f"exclude_{credential}_credential": bool for credential in _CREDENTIALS},
}
"""What adlfs hands on to Azure's DefaultAzureCredential, whose signature doesn't tell."""


def known_options() -> Mapping[str, Kind]:
    """Those of adlfs."""
    own = keywords(AzureBlobFileSystem.__init__) | OF_FSSPEC
    # Its default, None, doesn't tell.
    return own | {"anon": bool} | _OF_IDENTITY


class AzureStore(UnstagedWrites):
    """The containers of one storage account."""

    def __init__(self, options: dict[str, Any], account_host: str) -> None:
        """`account_host` is the one that a URL names (`ACCOUNT.dfs.core.windows.net`), or empty."""
        if account_host:
            options = {"account_name": account_host.partition(".")[0]} | options
        filesystem = AzureBlobFileSystem(**(options | UNCACHED))
        # adlfs' own timeouts are for its own transfers.
        timeouts = {name: options[name] for name in (*_TIMEOUTS, "timeout") if name in options}
        # Retries are made in one place, `retrying`.
        self._asking: dict[str, Any] = {"retry_total": 0} | _TIMEOUTS | timeouts
        self._service = filesystem.service_client
        self._service._config.max_single_put_size = _WHOLE  # adlfs has no option for it
        self._uploads = asyncio.Semaphore(_UPLOADS_AT_ONCE)
        # It closes the client when it is collected.
        self._filesystem = filesystem

    async def find(self, path: str) -> Object | None:
        container, key = _split(path)
        if not key:
            return None
        try:
            found = await retrying(
                lambda: self._service.get_blob_client(container, key).get_blob_properties(
                    **self._asking
                ),
                _fault_of,
            )
        except Missing:
            return None
        return None if _is_folder(found) else _object(path, found)

    async def find_below(self, path: str) -> list[Object]:
        container, key = _split(path)
        prefix = key if not key or key.endswith("/") else f"{key}/"

        async def attempt() -> list[Object]:
            blobs = self._service.get_container_client(container).list_blobs(
                name_starts_with=prefix, include=["metadata"], **self._asking
            )
            return [
                Object(f"{container}/{blob.name}/", 0, None)
                if _is_folder(blob)
                else _object(f"{container}/{blob.name}", blob)
                async for blob in blobs
            ]

        try:
            return await retrying(attempt, _fault_of) or await self._empty(path)
        except Missing:
            return []

    async def _empty(self, path: str) -> list[Object]:
        """The directory itself, if it is one with nothing in it."""
        container, key = _split(path.rstrip("/"))
        found = await retrying(
            lambda: self._service.get_blob_client(container, key).get_blob_properties(
                **self._asking
            ),
            _fault_of,
        )
        return [Object(f"{container}/{key}/", 0, None)] if _is_folder(found) else []

    async def get(self, found: Object, destination: Path, transfer: Transfer) -> None:
        async def attempt() -> None:
            transfer.restart()
            stream = await self._service.get_blob_client(*_split(found.path)).download_blob(
                max_concurrency=_RANGES_AT_ONCE,
                progress_hook=_hook(transfer),
                etag=found.version,
                match_condition=MatchConditions.IfNotModified,
                **self._asking,
            )
            with destination.open("wb") as file:
                await stream.readinto(file)
            check_size(found, destination)
            if md5 := stream.properties.content_settings.content_md5:
                told = {"MD5": base64.b64encode(md5).decode()}
                await checksums.compare(destination, told)

        await retrying(attempt, _fault_of)

    async def stage(self, file: Outgoing) -> Staged:
        if not _split(file.path)[1]:
            raise Fault("it names a container, and a file needs a name in it")
        return await super().stage(file)

    async def _send(self, file: Outgoing) -> None:
        large = file.source.stat().st_size > _SMALL
        async with self._uploads if large else nullcontext():
            await write_over_seen(file, self.find, partial(self._put, file))

    async def _put(self, file: Outgoing, seen: str | None) -> None:
        container, key = _split(file.path)
        kind = ContentSettings(content_type=mimetypes.guess_type(key)[0])
        condition: dict[str, Any] = {"overwrite": seen != conditional.NOTHING}
        if seen:
            condition |= {"etag": seen, "match_condition": MatchConditions.IfNotModified}

        async def attempt() -> None:
            file.transfer.restart()
            with opened(file.source) as data:
                await self._service.get_blob_client(container, key).upload_blob(
                    data,
                    max_concurrency=_BLOCKS_AT_ONCE,
                    progress_hook=_hook(file.transfer),
                    content_settings=kind,
                    **condition,
                    **self._asking,
                )

        try:
            await retrying(attempt, _fault_of)
        except Missing:
            if not seen:
                raise
            raise Replaced from None  # somebody has removed it

    async def mark(self, path: str) -> None:
        container, key = _split(path.rstrip("/"))
        if key:
            await retrying(
                lambda: self._service.get_blob_client(container, key).upload_blob(
                    b"", overwrite=True, metadata=_FOLDER, **self._asking
                ),
                _fault_of,
            )


def _split(path: str) -> tuple[str, str]:
    container, _, key = path.partition("/")
    return container, key


def _object(path: str, blob: Any) -> Object:
    # In a listing the ETag has no quotes, and it would seem to be another version.
    tag = blob.etag.strip('"')
    return Object(path, blob.size, f'"{tag}"')


def _is_folder(blob: Any) -> bool:
    return (blob.metadata or {}).get("hdi_isfolder") == "true"


def _hook(transfer: Transfer) -> Callable[[int, int | None], Awaitable[None]]:
    async def tell(position: int, _: int | None) -> None:
        transfer.at(position)

    return tell


def _code(error: HttpResponseError) -> str:
    return str(getattr(error, "error_code", None) or "")


def _fault_of(error: Exception) -> Fault:
    match error:
        case ResourceNotFoundError():
            missing = _code(error) == "ContainerNotFound"
            return Fault("its container doesn't exist") if missing else Missing()
        case ResourceModifiedError() | ResourceExistsError():
            return Replaced()
        case ClientAuthenticationError():
            return Fault(f"access is denied ({_code(error) or error.reason})")
        case HttpResponseError() if error.status_code:
            return faults.of_status(error.status_code, _code(error))
        case ServiceRequestError() | ServiceResponseError():
            return Fault(f"the connection failed ({type(error).__name__})", passing=True)
        case HttpResponseError():  # the body broke off, and so did its own further attempts
            return Fault("the connection broke in the middle of an answer", passing=True)
        case _:
            return faults.fault_of(error)
