"""A container's stdin, stdout and stderr, in constant memory."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, Final

from raytes.runner.podman import Attachment

_CHUNK: Final = 256 * 2**10  # bytes


class Tail:
    """The last bytes of a stream."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = bytearray()
        self._cut = False

    def append(self, data: bytes) -> None:
        """Add what was written."""
        self._bytes += data
        # Twice the limit, so that not every write moves the whole tail.
        if len(self._bytes) > 2 * self._limit:
            self._cut = True
            del self._bytes[: len(self._bytes) - self._limit]

    def text(self, ended: bool) -> str:
        """The tail, decoded; what isn't UTF-8 is U+FFFD.

        Cut at the beginning of a character, and at the end of one while the stream goes on.
        """
        data = bytes(self._bytes)  # in one step: the stream may go on meanwhile
        if self._cut or len(data) > self._limit:
            data = data[max(0, len(data) - self._limit) :]
            data = data[_continuation(data[:3]) :]
        if not ended:
            data = data[: len(data) - _incomplete(data[-3:])]
        return data.decode(errors="replace")


class Output:
    """stdout or stderr: its tail, and a file that takes all of it if one is wanted."""

    def __init__(self, tail: Tail, file: BinaryIO | None) -> None:
        self.tail = tail
        self.file = file

    def write(self, data: bytes) -> None:
        """Take what was written."""
        self.tail.append(data)
        if self.file is not None:
            self.file.write(data)


def read_outputs(
    attachment: Attachment, stdout: Output, stderr: Output, changed: Callable[[], None]
) -> None:
    """Take what the container writes until it has closed both streams.

    Raises:
        OSError: a file can't be written.
    """
    outputs = {1: stdout, 2: stderr}
    for stream, data in attachment.frames():
        outputs[stream].write(data)
        changed()


class StdinPump(threading.Thread):
    """Feeds a file to a container's stdin, as far as the program reads it."""

    def __init__(
        self, attachment: Attachment, source: BinaryIO, unreadable: Callable[[], None]
    ) -> None:
        """`unreadable` is called when the file can't be read to its end."""
        super().__init__(name="stdin", daemon=True)
        self._attachment = attachment
        self._source = source
        self._unreadable = unreadable
        self.error: OSError | None = None
        """What kept the file from being read to its end."""

    def run(self) -> None:
        with suppress(OSError):  # the program has ended, or closed its stdin
            while data := self._read():
                self._attachment.write(data)
            self._attachment.end_stdin()
        if self.error is not None:
            self._unreadable()

    def end(self) -> None:
        """Stop feeding; the program has ended."""
        self._attachment.close()
        if self.ident is not None:  # else it was never started
            self.join()

    def _read(self) -> bytes:
        try:
            return self._source.read(_CHUNK)
        except OSError as error:
            self.error = error
            return b""


def _continuation(data: bytes) -> int:
    """How many bytes at the beginning belong to a character that began before."""
    return next((i for i, byte in enumerate(data) if byte & 0xC0 != 0x80), len(data))


def _incomplete(data: bytes) -> int:
    """How many bytes at the end begin a character that hasn't ended."""
    for length in range(1, len(data) + 1):
        byte = data[-length]
        if byte & 0xC0 == 0x80:
            continue
        wanted = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return length if wanted > length else 0
    return 0
