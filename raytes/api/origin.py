"""Requests that another website has a browser send: those that change something are refused.

A browser sends a simple POST to any address it can reach, this machine's own included, without
asking first; only the answer is kept from the website, and for a task that would be too late.
It says in `Origin` on whose behalf it asks. Clients of TES send no such header.
"""

from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from raytes.api.invalid import quoted
from raytes.api.problems import problem

# What changes nothing; OPTIONS has to be answered for a browser to ask before it sends.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class TrustedOrigin:
    """Refuses to change anything for a website that isn't this service's own host.

    Parameters:
        origins: the websites that may, as scheme, host and port; `*` is any.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in _SAFE:
            headers = Headers(scope=scope)
            for origin in headers.getlist("origin"):
                if not self._is_trusted(origin, headers.get("host", "")):
                    await _refusal(origin)(scope, receive, send)
                    return
        await self._app(scope, receive, send)

    def _is_trusted(self, origin: str, host: str) -> bool:
        return not self._origins.isdisjoint((origin, "*")) or host_of(origin) == host.lower()


def host_of(origin: str) -> str | None:
    """Its host and port; None for `null` (a local file, a sandbox) and what is no origin."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _refusal(origin: str) -> ASGIApp:
    return problem(
        HTTPStatus.FORBIDDEN,
        f"nothing is changed here for a script of another website, {quoted(origin)}: if it may "
        "use this service, name it in the setting `cors_origins`",
    )
