"""The way of a request past what Ray Serve does with each, which takes longer than the answer.

Serve numbers, counts and times a request, lets so many in at once, names it in the answer
(X-Request-ID), and watches whether its client is still there. Nothing here needs that: a replica
takes whatever comes, and what was asked for is done whether or not somebody waits for it. Serve
goes on to start replicas, to look after them, and to end them: that waits for the requests in
hand, since their connections do.
"""

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

# Where Serve's own answers are: whether a replica is well.
_SERVES_OWN = "/-/"

_here: list[ASGIApp] = []


def answer_here(app: ASGIApp | None) -> None:
    """Have `app` answer what comes to this process; None: nobody does, but by Serve's way."""
    _here[:] = [] if app is None else [app]


class Direct:
    """Takes requests to the application of this process; `app` is Serve's way there."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _here and scope["type"] == "http" and not scope["path"].startswith(_SERVES_OWN):
            await _here[0](scope, receive, send)
        else:
            await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """What Serve is to put around its own (RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH)."""
    return [Middleware(Direct)]
