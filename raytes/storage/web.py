"""Files over http and https: GET for inputs, PUT for outputs."""

import asyncio
import contextlib
import socket
import weakref
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
from fsspec.asyn import get_loop
from fsspec.implementations.http import HTTPFileSystem
from yarl import URL

from raytes.errors import ForbiddenURL
from raytes.storage import ranges, urls
from raytes.storage.aiohttp_options import OF_SESSION, as_objects
from raytes.storage.below import opened
from raytes.storage.faults import Fault, Forbidden, Missing, fault_of, of_status
from raytes.storage.hosts import refusal_of_address
from raytes.storage.objects import Object, Outgoing, UnstagedWrites, check_size
from raytes.storage.policy import Policy
from raytes.storage.progress import Transfer
from raytes.storage.retry import retrying
from raytes.storage.signature import OF_FSSPEC, Kind

_UNKNOWN = -1
"""The size of an object whose server doesn't tell it."""

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
_MOST_REDIRECTS = 10
_PIECE = ranges.PIECE
_LARGEST_DOCUMENT = 64 * 2**20  # bytes
_NONE: Mapping[str, str] = {}
_AS_IT_IS = {"Accept-Encoding": "identity"}  # the bytes of the file, not a compression of them

_OF_A_REQUEST = frozenset(
    {
        "auth", "cookies", "expect100", "headers", "max_field_size", "max_line_size", "params",
        "proxy", "proxy_headers", "read_bufsize", "server_hostname",
        "skip_auto_headers", "ssl", "timeout", "verify_ssl",
    }
)  # fmt: skip
"""What aiohttp takes with a request, of what doesn't change how its answer has to be read."""

_OF_NO_USE = (
    "block_size", "cache_options", "cache_type", "encoded", "same_scheme", "simple_links",
    "size_policy",
)  # fmt: skip
"""What fsspec's HTTPFileSystem takes, and makes no difference to transfers of our own."""

KNOWN_OPTIONS: Mapping[str, Kind] = {
    **dict.fromkeys((*_OF_A_REQUEST, *_OF_NO_USE)),
    **OF_FSSPEC,
    "expect100": bool,
    "verify_ssl": bool,
    "client_kwargs": OF_SESSION,
}


@dataclass(frozen=True, slots=True)
class WebObject(Object):
    """What a server tells of a file."""

    in_ranges: bool = False  # it can be asked for parts of it, and tells its versions apart


class WebStore(UnstagedWrites):
    """The web: each URL is an object of its own, and there are no directories."""

    def __init__(
        self, options: dict[str, Any], section: str | None, policy: Policy, *, granted: bool = False
    ) -> None:
        """`options` are for the URLs below `section`: `client_kwargs` for aiohttp's session,
        others (`headers`, `auth` …) for each request, as in fsspec's HTTPFileSystem. `granted`:
        these URLs may be used whatever their address, though no section is called after them.
        """
        self._client = as_objects(options.get("client_kwargs", {}))
        self._request = as_objects(
            {name: value for name, value in options.items() if name in _OF_A_REQUEST}
        )
        self._section = section
        self._granted = granted
        self._policy = policy
        self._sessions: dict[tuple[bool, bool], aiohttp.ClientSession] = {}

    async def find(self, path: str) -> Object | None:
        async def attempt() -> Object | None:
            async with self._asked("HEAD", path) as answer:
                if answer.status in {404, 410}:
                    raise _refusal(answer)
                if _is_success(answer) and answer.content_length is not None:
                    in_ranges = answer.headers.get("Accept-Ranges") == "bytes"
                    return _object(path, answer, answer.content_length, in_ranges=in_ranges)
            # Some servers, and URLs that were signed for GET, know no HEAD.
            async with self._asked("GET", path, headers={"Range": "bytes=0-0"}) as answer:
                return _object_behind(path, answer)

        return await retrying(attempt, fault_of)

    async def find_below(self, path: str) -> list[Object]:
        return []

    async def get(self, found: Object, destination: Path, transfer: Transfer) -> None:
        if isinstance(found, WebObject) and found.in_ranges and found.size > ranges.SIZE:
            open_range = partial(self._opened, found)
            with contextlib.suppress(_NoSuchRange):
                await ranges.get_ranges(found, destination, transfer, open_range, fault_of)
                return

        async def attempt() -> None:
            transfer.restart()
            async with self._asked("GET", found.path) as answer:
                if not _is_success(answer):
                    raise _refusal(answer)
                _check_version(found, answer)
                length = _length(found, answer)
                with destination.open("wb") as file:
                    async for piece in answer.content.iter_chunked(_PIECE):
                        file.write(piece)
                        transfer.moved(len(piece))
            if length != _UNKNOWN:
                check_size(Object(found.path, length, None), destination)

        await retrying(attempt, fault_of)

    async def read(self, url: str) -> bytes:
        """A small answer, such as a document."""

        async def attempt() -> bytes:
            async with self._asked("GET", url) as answer:
                if not _is_success(answer):
                    raise of_status(answer.status)
                text = bytearray()
                async for piece in answer.content.iter_chunked(_PIECE):
                    text += piece
                    if len(text) > _LARGEST_DOCUMENT:
                        raise Fault(f"an answer has more than {_LARGEST_DOCUMENT} bytes")
                return bytes(text)

        return await retrying(attempt, fault_of)

    async def mark(self, path: str) -> None:
        """Nothing: the web has no directories."""

    async def _send(self, file: Outgoing) -> None:
        await file.ask()

        async def attempt() -> None:
            upload = _Upload(file.source, file.transfer)
            async with self._asked("PUT", file.path, upload) as answer:
                if not _is_success(answer):
                    raise _refusal(answer)

        await retrying(attempt, fault_of)

    @contextlib.asynccontextmanager
    async def _opened(
        self, found: Object, start: int, end: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        headers = {"Range": f"bytes={start}-{end - 1}", "If-Range": found.version or ""}
        async with self._asked("GET", found.path, headers=headers) as answer:
            if answer.status in {HTTPStatus.OK, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}:
                raise _NoSuchRange  # and the whole of it will tell which
            if not _is_success(answer):
                raise _refusal(answer)
            _check_version(found, answer)
            told = answer.headers.get("Content-Range", "")
            if told != f"bytes {start}-{end - 1}/{found.size}":
                raise Fault("the store sent another range of bytes than it was asked for")
            yield answer.content.iter_chunked(_PIECE)

    @contextlib.asynccontextmanager
    async def _asked(
        self,
        method: str,
        url: str,
        upload: "_Upload | None" = None,
        headers: Mapping[str, str] = _NONE,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, after redirects: each is judged like a URL that a task wrote itself."""
        for _ in range(_MOST_REDIRECTS):
            async with self._hop(method, url, upload, headers) as answer:
                if answer.status not in {301, 302, 303, 307, 308}:
                    yield answer
                    return
                if upload is not None and answer.status not in {307, 308}:
                    raise of_status(answer.status)  # the others ask for a GET
                url = urljoin(url, answer.headers.get("Location", ""))
        raise Fault(f"it was redirected more than {_MOST_REDIRECTS} times")

    @contextlib.asynccontextmanager
    async def _hop(
        self, method: str, url: str, upload: "_Upload | None", headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        # Credentials of a section don't follow a redirect that leaves it.
        own = self._section is not None and urls.longest_prefix(url, [self._section]) is not None
        granted = (own and self._granted) or self._policy.is_granted(url)
        self._judge(url, granted)
        options = dict(self._request) if own else {}
        options["headers"] = {**_AS_IT_IS, **options.get("headers", {}), **headers}
        if upload is not None:
            options["headers"] |= upload.headers
        session = self._session(own, guarded=not granted)
        literal = URL(url, encoded=url.isascii() and " " not in url)
        async with session.request(
            method, literal, data=upload and upload.pieces(), allow_redirects=False, **options
        ) as answer:
            yield answer

    def _judge(self, url: str, granted: bool) -> None:
        try:
            scheme = self._policy.locate(url, granted=granted).scheme
        except ForbiddenURL as error:
            raise Forbidden(str(error)) from None
        if scheme not in urls.WEB:
            raise Forbidden(f"it was redirected to {urls.shown(url)}")

    def _session(self, own: bool, *, guarded: bool) -> aiohttp.ClientSession:
        session = self._sessions.get((own, guarded))
        if session is None or session.closed:
            connector = aiohttp.TCPConnector(
                limit=32,
                # One address after the other, so that a forbidden one ends it.
                happy_eyeballs_delay=None,
                socket_factory=_guarded_socket if guarded else None,
            )
            settings: dict[str, Any] = {"timeout": _TIMEOUT} | (self._client if own else {})
            ours = {
                "connector": connector,
                "auto_decompress": False,
                "cookie_jar": aiohttp.DummyCookieJar(),  # tasks share the session, not a login
            }
            session = aiohttp.ClientSession(**(settings | ours))
            weakref.finalize(self, HTTPFileSystem.close_session, get_loop(), session)
            self._sessions[own, guarded] = session
        return session


class _NoSuchRange(Fault):
    """A server knows no ranges after all, or has another version of the object by now."""

    def __init__(self) -> None:
        super().__init__("the store has no such range of bytes")


class _Upload:
    """The body of a request: a file."""

    def __init__(self, source: Path, transfer: Transfer) -> None:
        self._source = source
        self._transfer = transfer
        # Given by hand, because many servers don't take chunked bodies.
        self.headers = {
            "Content-Length": str(source.stat().st_size),
            "Content-Type": "application/octet-stream",
        }

    async def pieces(self) -> AsyncIterator[bytes]:
        """The file from its beginning."""
        self._transfer.restart()
        with opened(self._source) as file:
            while piece := await asyncio.to_thread(file.read, _PIECE):
                yield piece
                self._transfer.moved(len(piece))


def _guarded_socket(address: Any) -> socket.socket:
    """A socket to connect to `address`, judged after its name was resolved."""
    family, kind, protocol, _, (host, *_) = address
    if refusal := refusal_of_address(host):
        raise Forbidden(refusal)
    return socket.socket(family, kind, protocol)


def _is_success(answer: aiohttp.ClientResponse) -> bool:
    """Whether it did what was asked; `answer.ok` says so of 300 and 304 too."""
    return 200 <= answer.status < 300


def _refusal(answer: aiohttp.ClientResponse) -> Fault:
    fault = of_status(answer.status)
    # The status belongs into the message: whoever sees it looks at the server.
    return Fault("the store answered 404 (Not Found)") if isinstance(fault, Missing) else fault


def _object_behind(path: str, answer: aiohttp.ClientResponse) -> Object:
    """What the answer to a request for the first byte tells, of which nothing is read."""
    if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return Object(path, _UNKNOWN, None)  # it has no first byte
    if not _is_success(answer):
        raise _refusal(answer)
    if answer.status != HTTPStatus.PARTIAL_CONTENT:
        size = answer.content_length
        return _object(path, answer, _UNKNOWN if size is None else size, in_ranges=False)
    told = answer.headers.get("Content-Range", "").rpartition("/")[2]
    if not told.isdecimal():
        return Object(path, _UNKNOWN, None)
    return _object(path, answer, int(told), in_ranges=True)


def _object(path: str, answer: aiohttp.ClientResponse, size: int, *, in_ranges: bool) -> Object:
    version = _version(answer) if size != _UNKNOWN else None
    return WebObject(path, size, version, in_ranges and version is not None)


def _length(found: Object, answer: aiohttp.ClientResponse) -> int:
    """The bytes that an answer has to have."""
    if answer.content_length is not None:
        return answer.content_length
    # In chunks its end is marked. Else it may have broken off, as only the size tells that was
    # told before; but for 0, which some servers answer to any HEAD.
    return _UNKNOWN if "Transfer-Encoding" in answer.headers else found.size or _UNKNOWN


def _version(answer: aiohttp.ClientResponse) -> str | None:
    """A strong ETag, or the time of the last change; weak ETags promise no equal bytes."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified")


def _check_version(found: Object, answer: aiohttp.ClientResponse) -> None:
    if _was_replaced(found.version, _version(answer)):
        raise Fault("it was replaced while it was being read", elsewhere=True)


def _was_replaced(before: str | None, now: str | None) -> bool:
    """Whether two answers about one URL contradict each other; an ETag and a time don't."""
    if before is None or now is None or before.startswith('"') != now.startswith('"'):
        return False
    return before != now
