"""Objects by their GA4GH Data Repository Service (DRS 1.x) names, `drs://host/id`.

The service only says where the bytes are; they come from there by their own scheme, and have
to have the checksum that the service tells.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from raytes.errors import ForbiddenURL
from raytes.storage import checksums
from raytes.storage.faults import Fault, Missing
from raytes.storage.objects import Object, ObjectStore, Outgoing, Staged, UnstagedWrites
from raytes.storage.parallel import in_parallel
from raytes.storage.progress import Transfer
from raytes.storage.web import WebStore

_QUESTIONS_AT_ONCE = 8
_DEEPEST = 32  # levels of bundles in bundles

_ALGORITHMS = {
    "sha-512": "sha512",
    "sha512": "sha512",
    "sha-256": "sha256",
    "sha256": "sha256",
    "sha-1": "sha1",
    "sha1": "sha1",
    "md5": "md5",
}
"""What DRS servers call the checksums that can be verified, the strongest first."""

OpenStore = Callable[[str, Mapping[str, str]], Awaitable[tuple[ObjectStore, str]]]
"""The store that a URL lies in, and its path there; the headers go with each request.

Raises ForbiddenURL where the service may not use the URL."""


@dataclass(frozen=True, slots=True)
class DrsObject(Object):
    """An object with what its service has said of it."""

    document: Mapping[str, Any] = field(default_factory=dict, repr=False)


class DrsStore(UnstagedWrites):
    """The objects of one DRS server; a bundle is a directory."""

    def __init__(self, endpoint: str, web: WebStore, open_store: OpenStore) -> None:
        """`web` is asked what is below `endpoint`, the server's address."""
        self._objects = f"{endpoint.rstrip('/')}/ga4gh/drs/v1/objects"
        self._web = web
        self._open_store = open_store

    async def find(self, path: str) -> Object | None:
        try:
            document = await self._ask(_id_of(path))
        except Missing:
            return None
        with _reading():
            return None if _is_bundle(document) else _object(path, document)

    async def find_below(self, path: str) -> list[Object]:
        try:
            document = await self._ask(_id_of(path), "?expand=true")
        except Missing:
            return []
        with _reading():
            if not _is_bundle(document):
                return []
            members = _members(path.rstrip("/"), document["contents"])
        found: dict[str, Object] = {}

        async def look(member: tuple[str, str]) -> None:
            place, id = member
            if not id:
                found[place] = Object(place, 0, None)
                return
            document = await self._ask(id)
            with _reading():
                found[place] = _object(place, document)

        await in_parallel(members, look, limit=_QUESTIONS_AT_ONCE)
        return [found[place] for place, _ in members]

    async def get(self, found: Object, destination: Path, transfer: Transfer) -> None:
        assert isinstance(found, DrsObject)
        with _reading():
            told = _checksum(found.document)
            methods = list(found.document.get("access_methods") or ())
        refusals = []
        for method in methods:
            try:
                store, place = await self._open(found.document, method)
            except (ForbiddenURL, Fault) as refusal:
                refusals.append(str(refusal))
                continue
            source = await store.find(place)
            if source is None:
                raise Fault("what its DRS server says isn't there: it doesn't exist")
            await store.get(source, destination, transfer)
            if told is not None:
                await asyncio.to_thread(_verify, destination, *told)
            return
        raise Fault("; ".join(refusals) or "its DRS server tells no way to get it")

    async def stage(self, file: Outgoing) -> Staged:
        raise Fault("a DRS server can only be read from")

    async def mark(self, path: str) -> None:
        raise Fault("a DRS server can only be read from")

    async def _open(
        self, document: Mapping[str, Any], method: Mapping[str, Any]
    ) -> tuple[ObjectStore, str]:
        with _reading():
            access, access_id = method.get("access_url"), method.get("access_id")
            id = "" if access or not access_id else quote(str(document["id"]), safe="")
        if id:
            access = await self._ask(id, f"/access/{quote(str(access_id), safe='')}")
        with _reading():
            url, headers = _read_access(method, access)
        return await self._open_store(url, headers)

    async def _ask(self, id: str, more: str = "") -> dict[str, Any]:
        answer = await self._web.read(f"{self._objects}/{id}{more}")
        try:
            document = json.loads(answer)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise Fault("the DRS server's answer is not a JSON object")
        return document


@contextmanager
def _reading() -> Iterator[None]:
    """In this block, what a document lacks or has of another kind is its server's fault."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise Fault(f"the DRS server's answer can't be read ({what})") from error


def _id_of(path: str) -> str:
    """The id in a DRS URL, percent-encoded as it is there."""
    return path.partition("://")[2].partition("/")[2].rstrip("/")


def _read_access(method: Mapping[str, Any], access: Any) -> tuple[str, dict[str, str]]:
    """The URL of an access method, and the headers that go with its requests."""
    if not access or not access.get("url"):
        raise Fault(f"its access method {method.get('type')!r} has no URL")
    pairs = (header.partition(":") for header in access.get("headers") or ())
    return str(access["url"]), {name.strip(): value.strip() for name, _, value in pairs}


def _is_bundle(document: Mapping[str, Any]) -> bool:
    return bool(document.get("contents")) and not document.get("access_methods")


def _members(
    directory: str, contents: Sequence[Mapping[str, Any]], depth: int = 1
) -> list[tuple[str, str]]:
    """The place and the id of each object in a bundle; a bundle in it is a marker without id."""
    if depth > _DEEPEST:
        raise Fault(f"it has more than {_DEEPEST} levels of bundles")
    found: list[tuple[str, str]] = []
    for content in contents:
        place = f"{directory}/{content['name']}"
        if below := content.get("contents"):
            found += [(f"{place}/", ""), *_members(place, below, depth + 1)]
        else:
            found.append((place, _id_of_content(content)))
    return found


def _id_of_content(content: Mapping[str, Any]) -> str:
    if id := content.get("id"):
        return quote(str(id), safe="")
    for uri in content.get("drs_uri") or ():
        return _id_of(str(uri))
    raise Fault(f"its member {content.get('name')!r} has neither an id nor a DRS URI")


def _object(path: str, document: Mapping[str, Any]) -> DrsObject:
    sums = {one["type"]: one["checksum"] for one in document.get("checksums") or ()}
    version = next(iter(sorted(sums.values())), None) or document.get("updated_time")
    return DrsObject(path, int(document.get("size") or 0), version, document)


def _checksum(document: Mapping[str, Any]) -> tuple[str, str] | None:
    """The name and the value of the strongest checksum that can be verified, if there is one."""
    told = {
        str(one["type"]).lower(): str(one["checksum"]).lower()
        for one in document.get("checksums") or ()
    }
    return next(((name, told[name]) for name in _ALGORITHMS if name in told), None)


def _verify(path: Path, name: str, told: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, _ALGORITHMS[name]).hexdigest()
    if found != told:
        raise checksums.Corrupt(name)
