"""Files read where nobody can have turned their paths elsewhere."""

import os
from pathlib import Path

from raytes.storage.below import opened


def test_what_the_kernel_gives_in_small_pieces_is_read_as_it_was_asked_for() -> None:
    with opened(Path(f"/proc/{os.getpid()}/maps")) as file:  # a page at a time
        assert len(file.read(3 * os.sysconf("SC_PAGESIZE"))) == 3 * os.sysconf("SC_PAGESIZE")
