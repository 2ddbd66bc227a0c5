"""The methods that every path has: HEAD where there is GET, OPTIONS; and 405 for all others."""

from http import HTTPStatus

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from raytes.api.invalid import shortened
from raytes.api.problems import problem

_ROUTED = ("GET", "POST", "PUT", "PATCH", "DELETE")


def install(app: Starlette) -> None:
    """Answers HEAD and OPTIONS on every route, and what a route doesn't have with 405."""
    app.add_exception_handler(HTTPStatus.METHOD_NOT_ALLOWED, _not_routed)
    app.add_middleware(_HeadAsGet)


async def _not_routed(request: Request, _: Exception) -> Response:
    allowed = ", ".join(_methods(request))
    if request.method == "OPTIONS":
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": allowed})
    path = shortened(request.scope["path"])
    return problem(
        HTTPStatus.METHOD_NOT_ALLOWED,
        f"{request.method} is not possible at {path}, only {allowed}",
        headers={"Allow": allowed},
    )


def _methods(request: Request) -> list[str]:
    """Those that the path has. The router's own 405 knows of its first route only."""
    routed = [
        method
        for method in _ROUTED
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]
    return [*routed, *(["HEAD"] if "GET" in routed else []), "OPTIONS"]


class _HeadAsGet:
    """Has HEAD answered as GET is, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        ended = False

        async def without_body(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start":
                await send(message)
            elif not ended:  # the first piece of a body may be one of many
                ended = True
                await send({"type": "http.response.body", "body": b""})

        await self._app({**scope, "method": "GET"}, receive, without_body)
