"""Replies in gzip, for clients that take it.

Only what is large and sent in one piece: a stream's pieces must not wait for one another.
Starlette's own middleware does more, and takes its time for the many replies that are small.
"""

import asyncio
import gzip
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Below this size, in bytes, a compressed reply is no sooner there.
_FROM = 4096
# From this size on, compressing would keep other requests waiting.
_ASIDE_FROM = 128 * 1024
# The quickest: JSON gets hardly smaller with more, and the replica has one CPU.
_LEVEL = 1
# RFC 9110, 12.4.2: what has this weight is refused.
_REFUSED = re.compile(r"q\s*=\s*0(\.0*)?")


class Compressed:
    """Has large replies compressed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: Message = {}  # its headers depend on the body

        async def compressing(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start:
                whole = not message.get("more_body", False)
                if whole and len(message.get("body", b"")) >= _FROM:
                    await _compress(scope, start, message)
                await send(start)
                start = {}
            await send(message)

        await self._app(scope, receive, compressing)


async def _compress(scope: Scope, start: Message, message: Message) -> None:
    headers = MutableHeaders(raw=start["headers"])
    headers.add_vary_header("Accept-Encoding")
    if not _takes_gzip(Headers(scope=scope).get("accept-encoding", "")):
        return
    body = message["body"]
    if len(body) < _ASIDE_FROM:
        message["body"] = gzip.compress(body, _LEVEL)
    else:
        message["body"] = await asyncio.to_thread(gzip.compress, body, _LEVEL)
    headers["Content-Encoding"] = "gzip"
    headers["Content-Length"] = str(len(message["body"]))


def _takes_gzip(accepted: str) -> bool:
    """Whether a client with this `Accept-Encoding` takes gzip."""
    for offer in accepted.lower().split(","):
        coding, _, weight = offer.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return not _REFUSED.fullmatch(weight.strip())
    return False
