"""The URL schemes that raytes has code for, and what each needs on the machine."""

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True, slots=True)
class Scheme:
    """One scheme: the module that speaks it, and the package to install for it."""

    module: str
    package: str


SCHEMES = {
    "file": Scheme(module="os", package="python"),
    "s3": Scheme(module="s3fs", package="s3fs"),
    "gs": Scheme(module="gcsfs", package="gcsfs"),
    "abfs": Scheme(module="adlfs", package="raytes[azure]"),
    "az": Scheme(module="adlfs", package="raytes[azure]"),
    "http": Scheme(module="aiohttp", package="aiohttp"),
    "https": Scheme(module="aiohttp", package="aiohttp"),
    "drs": Scheme(module="aiohttp", package="aiohttp"),
    "ftp": Scheme(module="ftplib", package="python"),
    "sftp": Scheme(module="asyncssh", package="raytes[sftp]"),
}


def is_installed(scheme: str) -> bool:
    """Whether `scheme` is known and what it needs is there; nothing is imported to find out."""
    return scheme in SCHEMES and find_spec(SCHEMES[scheme].module) is not None
