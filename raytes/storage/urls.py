"""URLs as tasks write them: pure text, nothing here touches a disk or a network.

A bare absolute path means itself, character for character. A `file://`, `ftp://` or `sftp://`
URL is percent-decoded. The keys of object stores (`s3://`, `gs://`, `abfs://`) are literal:
`%20`, `#`, `?` and `*` are characters of the key.
"""

import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

from raytes.unicode import is_unicode

OBJECT_STORES = frozenset({"s3", "gs", "abfs", "az"})
"""The schemes whose URLs are a bucket and a literal key."""

WEB = frozenset({"http", "https"})

FILE_SERVERS = frozenset({"ftp", "sftp"})
"""The schemes whose URLs are a server and a path on it."""

READ_ONLY = frozenset({"drs"})
"""The schemes whose URLs can't be outputs."""

WITH_HOST = WEB | FILE_SERVERS | {"drs"}
"""The schemes whose URLs lead to whatever host they name."""

_AZURE = frozenset({"abfs", "az"})
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}\.(dfs|blob)\.core\.windows\.net", re.ASCII)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?", re.ASCII)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Location:
    """Where a URL points: `path` is an absolute path for `file` and for file servers,
    `bucket/key` for an object store, and the URL itself for everything else.
    """

    url: str  # as the client wrote it
    scheme: str  # in lower case; `file` for a bare path
    path: str
    authority: str = ""  # `host` or `host:port` of a server, the host of an Azure account

    def below(self, relative: str) -> "Location":
        """Where `relative` is below this directory.

        Raises:
            InvalidURL: no store of this kind could have it.
        """
        return parse(join(self.url, relative), {self.authority})


class InvalidURL(ValueError):
    """A URL can't mean anything; the message is the reason, without the URL."""


def parse(url: str, endpoints: Collection[str] = ()) -> Location:
    """Where `url` points; `endpoints` are the servers (`host` or `host:port`) that S3 URLs may
    name before the bucket.

    Raises:
        InvalidURL: it is no URL that any store could have.
    """
    _check_text(url)
    if url.startswith("/"):
        return Location(url, "file", url)
    match = _SCHEME.match(url)
    if match is None:
        raise InvalidURL("it is neither a URL (scheme://…) nor an absolute path")
    scheme, rest = match[1].lower(), url[match.end() :]
    if scheme == "file":
        return Location(url, scheme, _file_path(rest, has_authority=match[2] is not None))
    if match[2] is None:
        raise InvalidURL("it is neither a URL (scheme://…) nor an absolute path")
    if scheme in OBJECT_STORES:
        rest, server = _split_server(scheme, rest, endpoints)
        _check_object(rest)
        return Location(url, scheme, rest, server)
    authority, _, path = rest.partition("/")
    if scheme == "drs" and not path:
        raise InvalidURL("compact identifiers are not resolved here: write drs://host/id")
    _check_host(url)
    if scheme in WEB:
        return Location(url, scheme, url)
    if "@" in authority:
        raise InvalidURL(
            "it names a user: credentials belong into a section [storage] of the settings"
        )
    path = _decoded(path) if scheme in FILE_SERVERS else url
    return Location(url, scheme, path, authority.lower())


def join(url: str, relative: str) -> str:
    """The URL of what lies at `relative` below the directory `url`."""
    if not relative:
        return url
    if url.partition("://")[0].lower() in OBJECT_STORES:
        return f"{url.rstrip('/')}/{relative}"
    if not url.startswith("/"):
        return f"{url.rstrip('/')}/{quote(os.fsencode(relative))}"
    joined = f"{url.rstrip('/')}/{relative}"
    # A name that isn't UTF-8 fits into no JSON document, but it does fit into a file URL.
    return joined if is_unicode(joined) else f"file://{quote(os.fsencode(joined))}"


def file_url(path: str | os.PathLike[str]) -> str:
    """The `file://` URL of an absolute path."""
    return f"file://{quote(os.fsencode(path))}"


def longest_prefix(url: str, prefixes: Iterable[str]) -> str | None:
    """The longest of `prefixes` that `url` lies under, ending only where a component ends:
    `s3://data/a` is a prefix of `s3://data/a/b`, not of `s3://data/ab`.
    """
    folded = _fold_scheme(url)
    fitting = [prefix for prefix in prefixes if _lies_under(folded, _fold_scheme(prefix))]
    return max(fitting, key=len, default=None)


def shown(url: str) -> str:
    """`url` for the eyes of people: without a password, and without the query of an http URL,
    where signatures live.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        authority = "…@" + authority.rpartition("@")[2]
    if scheme.lower() in WEB and "?" in authority + path:
        authority, slash, path = (authority + slash + path).partition("?")[0], "?", "…"
    return f"{scheme}://{authority}{slash}{path}"


def names_host(prefix: str) -> bool:
    """Whether a URL, or the beginning of one, names a host that it leads to."""
    try:
        _check_host(prefix)
    except InvalidURL:
        return False
    return prefix.partition("://")[0].lower() in WITH_HOST


def _check_text(url: str) -> None:
    if not url:
        raise InvalidURL("it is empty")
    if "\0" in url:
        raise InvalidURL("it has a NUL byte")
    if not is_unicode(url):
        raise InvalidURL("it is not valid Unicode")


def _file_path(rest: str, *, has_authority: bool) -> str:
    host = ""
    if has_authority:
        host, slash, path = rest.partition("/")
        rest = slash + path
    if host.lower() not in {"", "localhost"}:
        raise InvalidURL(f"a file URL can't name another host ({host}): write file:///path")
    if not rest.startswith("/"):
        raise InvalidURL("a file URL needs an absolute path: write file:///path")
    path = os.fsdecode(unquote_to_bytes(rest))
    if "\0" in path:
        raise InvalidURL("it has a NUL byte")
    return path


def _decoded(path: str) -> str:
    try:
        decoded = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise InvalidURL("its path is not UTF-8") from None
    if any(ord(character) < ord(" ") for character in decoded):
        raise InvalidURL("its path has a control character")
    return f"/{decoded}"


def _split_server(scheme: str, rest: str, endpoints: Collection[str]) -> tuple[str, str]:
    """Bucket and key, and the server that the URL names if it does."""
    if scheme in _AZURE:
        return _without_account(rest)
    first, _, more = rest.partition("/")
    if scheme == "s3" and first.lower() in endpoints:
        return more, first.lower()
    return rest, ""


def _without_account(rest: str) -> tuple[str, str]:
    """`container@account.dfs.core.windows.net/key` as `container/key` and the account's host."""
    place, slash, key = rest.partition("/")
    container, at, account = place.partition("@")
    if at and not _ACCOUNT.fullmatch(account):
        raise InvalidURL(f"{account!r} is not the host of an Azure storage account")
    return f"{container}{slash}{key}", account


def _check_object(rest: str) -> None:
    bucket, _, key = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise InvalidURL(f"{bucket!r} is not the name of a bucket")
    # On its way through HTTP libraries `bucket/../other` may become another bucket.
    if not {".", ".."}.isdisjoint(key.split("/")):
        raise InvalidURL("its key has a component '.' or '..'")


def _check_host(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidURL(f"it is not a URL ({error})") from None
    if not host:
        raise InvalidURL("it names no host")
    # What `..` leads to is decided by whoever reads it: section and store could disagree.
    if not {".", ".."}.isdisjoint(unquote(parts.path).split("/")):
        raise InvalidURL("its path has a component '.' or '..'")


def _fold_scheme(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme.lower()}{separator}{rest}"


def _lies_under(url: str, prefix: str) -> bool:
    return url == prefix or url.startswith(prefix if prefix.endswith("/") else f"{prefix}/")
