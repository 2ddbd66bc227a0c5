"""An HTTP server that answers as it is told, for what a real service does only now and then."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

BASE_PATH = "/ga4gh/tes/v1"


@dataclass
class Reply:
    """What is answered to one request."""

    body: Any = field(default_factory=dict)
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


DROPPED = Reply(status=0)
"""The connection is closed without an answer."""


@dataclass
class Request:
    """What a client sent."""

    method: str
    path: str  # without the base path
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


class Script:
    """The replies for each method and path, the last of which is repeated for ever."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[Request] = []
        self._replies: dict[tuple[str, str], list[Reply]] = {}

    def on(self, method: str, path: str, *bodies: Any) -> None:
        """Answers requests with these bodies (or `Reply`s), one after the other."""
        self._replies[method, path] = [
            body if isinstance(body, Reply) else Reply(body) for body in bodies
        ]

    def answer(self, request: Request) -> Reply:
        self.requests.append(request)
        replies = self._replies.get((request.method, request.path))
        if not replies:
            return Reply({"title": "Not Found", "status": 404}, 404)
        return replies.pop(0) if len(replies) > 1 else replies[0]

    def sent(self, method: str, path: str) -> list[Request]:
        """The requests that came to this method and path."""
        return [each for each in self.requests if (each.method, each.path) == (method, path)]


@contextmanager
def scripted_server() -> Iterator[Script]:
    """A server on a free port, for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            reply = script.answer(
                Request(
                    self.command,
                    url.path.removeprefix(BASE_PATH),
                    parse_qs(url.query, keep_blank_values=True),
                    dict(self.headers),
                    body,
                )
            )
            if reply is DROPPED:
                self.close_connection = True
                return
            data = (
                reply.body.encode()
                if isinstance(reply.body, str)
                else json.dumps(reply.body).encode()
            )
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _answer

        def log_message(self, *args: Any) -> None:
            """Nothing: a test's output is for its failures."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    script = Script(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
