"""Requests for a name that isn't this service's: refused where it listens on this machine alone.

Then who may use it is decided by who gets at it, and a browser on this machine does for every
website that it shows. One whose name leads to this machine for a moment (DNS rebinding) would
be its own host to `TrustedOrigin`, and could read whatever there is.
"""

from collections.abc import Collection
from http import HTTPStatus
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from raytes.api.invalid import quoted
from raytes.api.origin import host_of
from raytes.api.problems import problem

_LOCALHOST = "localhost"


class OwnHost:
    """Answers requests for localhost, for an address, or for the host of a trusted website.

    Parameters:
        origins: these websites, as scheme, host and port; `*` is any.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._any = "*" in origins
        websites = filter(None, map(host_of, origins))
        self._names = {_LOCALHOST, *map(_name_of, websites)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._any:
            # None is what a program of HTTP/1.0 sends, and no browser.
            host = Headers(scope=scope).get("host")
            if host is not None and not self._is_ours(host):
                await _refusal(host)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_ours(self, host: str) -> bool:
        name = _name_of(host)
        return name in self._names or _is_address(name)


def is_loopback(host: str) -> bool:
    """Whether what listens on a host is reached from the same machine only."""
    return host == _LOCALHOST or (_is_address(host) and ip_address(host).is_loopback)


def _name_of(host: str) -> str:
    """A host without its port, and an address without its brackets."""
    name, colon, port = host.lower().rpartition(":")
    if not colon or not port.isdecimal():
        name = host.lower()
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _refusal(host: str) -> ASGIApp:
    return problem(
        HTTPStatus.MISDIRECTED_REQUEST,
        f"this service listens on this machine alone, and doesn't answer for {quoted(host)}: ask "
        "for localhost or an address; if a proxy passes that name on, name its website in the "
        "setting `cors_origins`",
    )
