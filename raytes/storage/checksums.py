"""Comparing a file that came with the checksum that its store keeps of the object."""

import asyncio
import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import google_crc32c
from awscrt.checksums import crc64nvme

from raytes.storage.faults import Fault

_PIECE: Final = 2**20  # bytes read at once


class _Sum(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Running:
    """A checksum of which each value follows from the one before it."""

    def __init__(self, follow: Callable[[bytes, int], int], length: int) -> None:
        self._follow = follow
        self._length = length  # bytes
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._follow(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._length, "big")


def _crc32c() -> _Sum:
    checksum: Any = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
    return checksum  # type: ignore[no-any-return]


_ALGORITHMS: Final[Mapping[str, Callable[[], _Sum]]] = {
    "CRC64NVME": lambda: _Running(crc64nvme, 8),
    "CRC32C": _crc32c,
    "CRC32": lambda: _Running(zlib.crc32, 4),
    "SHA256": hashlib.sha256,
    "SHA1": lambda: hashlib.sha1(usedforsecurity=False),
    "MD5": lambda: hashlib.md5(usedforsecurity=False),
}
"""What can be verified, the cheapest first; the names are those that S3 has for them."""


class Corrupt(Fault):
    """What came isn't what the store has."""

    def __init__(self, algorithm: str = "") -> None:
        which = f" ({algorithm})" if algorithm else ""
        super().__init__(
            f"what came is not what the store has: its checksum{which} is another one",
            elsewhere=True,
        )


async def compare(file: Path, told: Mapping[str, str]) -> None:
    """Compares a file with the checksums of its whole content, in base64 by their algorithm.

    One that is known is enough.

    Raises:
        Corrupt: the file has another one.
    """
    for algorithm, new in _ALGORITHMS.items():
        if algorithm in told:
            found = await asyncio.to_thread(_of_file, file, new())
            if found != told[algorithm]:
                raise Corrupt(algorithm)
            return


def _of_file(file: Path, checksum: _Sum) -> str:
    with file.open("rb") as data:
        while piece := data.read(_PIECE):
            checksum.update(piece)
    return base64.b64encode(checksum.digest()).decode()
