"""Google Cloud Storage."""

import asyncio
from typing import Any

# Not gcsfs.GCSFileSystem: that one first asks Google's gRPC endpoint for each bucket's kind,
# which an emulator doesn't have.
from gcsfs.core import GCSFileSystem
from gcsfs.retry import HttpError
from google.auth.exceptions import DefaultCredentialsError, TransportError

from raytes.storage import faults
from raytes.storage.faults import Fault
from raytes.storage.objects import FsspecStore, Outgoing

_PART = 16 * 2**20
"""Bytes of one part of a large object; four are in memory at once while it is fetched."""

_UPLOADS_AT_ONCE = 8  # each with one part in memory


class GcsStore(FsspecStore):
    """Buckets of Google Cloud Storage, or of a server with its JSON API."""

    get_options = {"chunk_size": _PART, "max_prefetch_size": 2 * _PART}  # noqa: RUF012
    put_options = {"chunksize": _PART}  # noqa: RUF012

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(
            GCSFileSystem(**options, use_listings_cache=False, skip_instance_cache=True)
        )
        self._uploads = asyncio.Semaphore(_UPLOADS_AT_ONCE)

    def fault_of(self, error: Exception) -> Fault:
        match error:
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
            await super()._send(file)
