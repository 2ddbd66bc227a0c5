"""An HTTP server, in front of another or with files of its own, that misbehaves on demand."""

import hashlib
import http.client
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_OWN = {"connection", "transfer-encoding", "content-length", "date", "server"}


class FaultyProxy(ThreadingHTTPServer):
    """Passes requests on (or keeps what is PUT there, if there is nowhere to pass them); for
    each entry of `faults` one request fares otherwise: a number is the status it gets, a URL
    where it is redirected to, `reset` breaks the connection, `truncate` ends the body early,
    `stall` stops in the middle of it, `end` ends it early as if it were whole (it comes without its
    length, so that the end of the connection is its end), `short` and `long` have it end before and
    after the length that it was said to have, `drip` sends it slowly, `corrupt` changes a byte,
    `hang` never answers, and with an empty one it fares well.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: str | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream and urlsplit(upstream)
        self.files: dict[str, bytes] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.faults: deque[int | str] = deque()
        self.requests: list[str] = []
        self.headers: list[Message] = []
        self.hanging = threading.Event()
        self.released = threading.Event()
        self.drip_pause = 0.0  # seconds between two of eight pieces
        self.knows_ranges = False  # of the files that are its own
        self.meeting: threading.Barrier | None = None  # where each request of this kind waits
        self.meets = "GET"
        self.before_get: Callable[[str], None] = lambda path: None
        self.before_post: Callable[[str], None] = lambda path: None
        self.before_put: Callable[[str], int | str | None] = lambda path: None  # how it fares

    def handle_error(self, request: object, client_address: object) -> None:
        """Broken connections are the point."""


@contextmanager
def faulty_proxy(upstream: str | None = None) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(upstream)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.released.set()
        proxy.shutdown()
        thread.join()
        proxy.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(f"{self.command} {self.path}")
        self.server.headers.append(self.headers)
        if self.command == self.server.meets and (meeting := self.server.meeting):
            meeting.wait(30)
        if self.command == "GET":
            self.server.before_get(self.path)
        if self.command == "POST":
            self.server.before_post(self.path)
        fault = self.server.faults.popleft() if self.server.faults else None
        if self.command == "PUT":
            fault = self.server.before_put(self.path) or fault
        match fault:
            case int():
                self._answer(fault, [], b"")
            case str() if "/" in fault:
                self._answer(307, [("Location", fault)], b"")
            case "reset":
                self._reset()
            case "hang":
                self.server.hanging.set()
                self.server.released.wait()
                self._reset()
            case _ if self.server.upstream:
                self._pass_on(body, fault)
            case _:
                self._serve_file(body, fault)

    def _pass_on(self, body: bytes, fault: int | str | None) -> None:
        upstream = self.server.upstream
        assert upstream
        assert upstream.hostname
        connection = http.client.HTTPConnection(upstream.hostname, upstream.port)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        data = answer.read()
        headers = [pair for pair in answer.getheaders() if pair[0].lower() not in _OWN]
        if self.command == "HEAD":
            headers.append(("Content-Length", answer.getheader("Content-Length") or "0"))
            self._answer(answer.status, headers, None)
        else:
            self._answer(answer.status, headers, data, fault)
        connection.close()

    def _serve_file(self, body: bytes, fault: int | str | None) -> None:
        path = self.path.partition("?")[0]
        if self.command == "PUT":
            self.server.files[path] = body
            self._answer(201, [], b"")
        elif path not in self.server.files:
            self._answer(404, [], b"")
        else:
            data = self.server.files[path]
            tag = f'"{hashlib.sha256(data).hexdigest()}"'
            headers = [("ETag", tag)]
            if self.server.knows_ranges:
                headers.append(("Accept-Ranges", "bytes"))
            if self.command == "HEAD":
                self._answer(200, [*headers, ("Content-Length", str(len(data)))], None)
            elif (
                self.server.knows_ranges
                and "Range" in self.headers
                and self.headers.get("If-Range", tag) == tag
            ):
                first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
                part = data[first : last + 1]
                headers.append(("Content-Range", f"bytes {first}-{last}/{len(data)}"))
                self._answer(206 if part else 416, headers, part, fault)
            else:
                self._answer(200, headers, data, fault)

    def _answer(
        self,
        status: int,
        headers: list[tuple[str, str]],
        body: bytes | None,
        fault: int | str | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if fault in {"end", "short", "long"}:
            self.send_header("Connection", "close")
        if body is not None and fault != "end":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = fault in {"truncate", "stall", "end", "short"}
        if fault == "corrupt" and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        if fault == "long" and body:
            body += b"and more"
        if fault == "drip" and body:
            length = -(-len(body) // 8)
            for start in range(0, len(body) - length, length):
                self.wfile.write(body[start : start + length])
                time.sleep(self.server.drip_pause)
            body = body[start + length :]
        if body is not None:
            self.wfile.write(body[: len(body) // 2] if cut else body)
            self.wfile.flush()
        if fault == "stall":
            self.server.released.wait()
        if fault in {"truncate", "stall"}:
            self._reset()

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing."""

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve
