"""Objects that come in ranges, written to the node's disk."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from raytes.storage import faults, ranges
from raytes.storage.objects import Object
from raytes.storage.progress import Progress

DATA = os.urandom(3 * 2**20)


@asynccontextmanager
async def opened(start: int, end: int) -> AsyncIterator[AsyncIterator[bytes]]:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(start, end, ranges.PIECE):
            yield DATA[at : min(at + ranges.PIECE, end)]

    yield pieces()


def get(destination: Path) -> None:
    found, transfer = Object("object", len(DATA), "1"), Progress().begin()
    asyncio.run(ranges.get_ranges(found, destination, transfer, opened, faults.fault_of))


def test_what_the_disk_takes_only_a_part_of_is_written_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: pwrite(file, data[:300_000], at))
    get(tmp_path / "in")
    assert (tmp_path / "in").read_bytes() == DATA


def test_a_disk_that_takes_no_more_is_the_node_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite, full = os.pwrite, os.open("/dev/full", os.O_WRONLY)

    def write(file: int, data: bytes, at: int) -> int:
        room = 2_500_000 - at  # bytes; of the last piece a part
        return pwrite(file, data[:room], at) if room > 0 else pwrite(full, data, 0)

    monkeypatch.setattr(os, "pwrite", write)
    with pytest.raises(faults.Fault, match="disk is full") as failed:
        get(tmp_path / "in")
    assert failed.value.transient
    assert failed.value.of_node
    os.close(full)
