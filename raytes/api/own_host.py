"""Requests for a name that isn't this service's: refused where it listens on this machine alone.

Then who may use it is decided by who gets at it, and a browser on this machine does for every
website that it shows. One whose name leads to this machine for a moment (DNS rebinding) would
be its own host to `TrustedOrigin`, and could read whatever there is.
"""

import socket
from collections.abc import Collection
from functools import lru_cache
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from raytes.api.invalid import quoted
from raytes.api.origin import host_of
from raytes.api.problems import problem


class OwnHost:
    """Answers requests for localhost, for an address, for the host that is listened on, or for
    that of a trusted website.

    Parameters:
        host: what the service listens on.
        origins: these websites, as scheme, host and port; `*` is any.
    """

    def __init__(self, app: ASGIApp, host: str, origins: Collection[str]) -> None:
        self._app = app
        self._any = "*" in origins
        websites = filter(None, map(host_of, origins))
        self._names = {host.lower().removesuffix("."), *map(_name_of, websites)}
        self._is_ours = lru_cache(maxsize=64)(self._look_at)  # few are asked for, again and again

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._any:
            # None is what a program of HTTP/1.0 sends, and no browser.
            host = Headers(scope=scope).get("host")
            if host is not None and not self._is_ours(host):
                await _refusal(host)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _look_at(self, host: str) -> bool:
        name = _name_of(host)
        return _is_localhost(name) or name in self._names or bool(_addresses(name, numeric=True))


def is_loopback(host: str) -> bool:
    """Whether what listens on a host is reached from the same machine only."""
    if _is_localhost(host.lower().removesuffix(".")):
        return True
    found = [ip_address(address) for address in _addresses(host)]
    # Python before 3.13 doesn't know an IPv4 address in an IPv6 one.
    plain = [(isinstance(one, IPv6Address) and one.ipv4_mapped) or one for one in found]
    return bool(plain) and all(address.is_loopback for address in plain)


def _is_localhost(name: str) -> bool:
    """Whether a name leads to loopback everywhere, and is nobody's (RFC 6761)."""
    return name == "localhost" or name.endswith(".localhost")


def _name_of(host: str) -> str:
    """A host without its port and the dot at its end, and an address without its brackets."""
    name, colon, port = host.lower().rpartition(":")
    if not colon or (port and not port.isdecimal()):
        name = host.lower()
    name = name.removesuffix(".")
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name


def _addresses(host: str, *, numeric: bool = False) -> set[str]:
    """The addresses that a host stands for; `numeric`: no name is looked up."""
    flags = socket.AI_NUMERICHOST if numeric else 0
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, flags=flags)}
    except (OSError, ValueError):  # the latter: it can't be the name of a host
        return set()


def _refusal(host: str) -> ASGIApp:
    return problem(
        HTTPStatus.MISDIRECTED_REQUEST,
        f"this service listens on this machine alone, and doesn't answer for {quoted(host)}: ask "
        "for localhost or an address; if a proxy passes that name on, name its website in the "
        "setting `cors_origins`",
    )
