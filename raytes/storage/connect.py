"""From a scheme and its options to the store that speaks it.

The implementations are imported here and only when they are needed: s3fs or gcsfs cost half
a second, which a task that only touches files shouldn't pay.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raytes.storage.objects import ObjectStore
from raytes.storage.policy import Policy
from raytes.storage.signature import Kind
from raytes.storage.urls import Location

if TYPE_CHECKING:
    from raytes.storage.drs import OpenStore


def connect(
    location: Location,
    options: dict[str, Any],
    section: str | None,
    policy: Policy,
    open_store: "OpenStore",
) -> ObjectStore:
    """The store that `location` lies in; `options`, from `section` of the settings, are in the
    words of its fsspec implementation. `open_store` is for what only tells where the bytes are.
    """
    match location.scheme:
        case "s3":
            from raytes.storage.s3 import S3Store

            return S3Store(options)
        case "gs":
            from raytes.storage.gcs import GcsStore

            return GcsStore(options)
        case "abfs" | "az":
            from raytes.storage.azure import AzureStore

            return AzureStore(options, location.authority)
        case "http" | "https":
            from raytes.storage.web import WebStore

            return WebStore(options, section, policy)
        case "drs":
            from raytes.storage.drs import DrsStore
            from raytes.storage.web import WebStore

            endpoint = options.pop("endpoint_url", f"https://{location.authority}")
            granted = policy.is_granted(location.url)
            return DrsStore(
                endpoint, WebStore(options, endpoint, policy, granted=granted), open_store
            )
        case "ftp":
            from raytes.storage.ftp import FtpStore

            return FtpStore(
                options, location.authority, guarded=not policy.is_granted(location.url)
            )
        case "sftp":
            from raytes.storage.sftp import SftpStore

            return SftpStore(options, location.authority)
    raise AssertionError(f"no code for {location.scheme}, though the policy let it pass")


def known_options(scheme: str) -> Mapping[str, Kind]:
    """The options that the stores of an installed scheme take."""
    match scheme:
        case "s3":
            from raytes.storage import s3

            return s3.known_options()
        case "gs":
            from raytes.storage import gcs

            return gcs.known_options()
        case "abfs" | "az":
            from raytes.storage import azure

            return azure.known_options()
        case "http" | "https":
            from raytes.storage import web

            return web.KNOWN_OPTIONS
        case "drs":
            from raytes.storage import web

            return {**web.KNOWN_OPTIONS, "endpoint_url": None}
        case "ftp":
            from raytes.storage import ftp

            return ftp.KNOWN_OPTIONS
        case "sftp":
            from raytes.storage import sftp

            return sftp.known_options()
    return {}
