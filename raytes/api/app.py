"""The application of one service.

Starlette's: FastAPI describes the routes, and what else it does would only cost each request time.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from ray.exceptions import RayError, RayTaskError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from raytes.api import methods, problems
from raytes.api.compression import Compressed
from raytes.api.cors import CrossOrigin
from raytes.api.direct import answer_here
from raytes.api.health import health_route
from raytes.api.nodes import node_routes
from raytes.api.openapi import description_routes
from raytes.api.origin import TrustedOrigin
from raytes.api.own_host import OwnHost, is_loopback
from raytes.api.routes import TaskRoutes
from raytes.config import Settings
from raytes.parameters import BACKEND_PARAMETERS
from raytes.storage import Storage
from raytes.store.client import QueueFull, StoreClient
from raytes.store.database import DatabaseUnavailable

_RETRY_AFTER_S = 2
# Room comes with each task that begins; but many clients may be after it.
_RETRY_AFTER_QUEUE_FULL_S = 10


def create_app(settings: Settings) -> Starlette:
    """The application; its store is looked up when it starts."""
    routes = TaskRoutes(settings, Storage(settings), BACKEND_PARAMETERS)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        routes.store = StoreClient(settings)
        answer_here(app)
        try:
            yield
        finally:
            answer_here(None)
            routes.store.close()

    app = Starlette(
        # Not as routers of their own, which would be gone through twice for each request.
        routes=[
            *routes.router.routes,
            *description_routes(routes.router).routes,
            *health_route(lambda: routes.store).routes,
            *node_routes(lambda: routes.store).routes,
        ],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.add_exception_handler(DatabaseUnavailable, _unavailable)
    app.add_exception_handler(QueueFull, _queue_full)
    app.add_exception_handler(RayError, _store_failed)
    # From the inside out.
    problems.install(app)
    app.add_middleware(Compressed)
    methods.install(app)
    app.add_middleware(TrustedOrigin, origins=settings.cors_origins)
    if is_loopback(settings.host):
        app.add_middleware(OwnHost, host=settings.host, origins=settings.cors_origins)
    if settings.cors_origins:
        app.add_middleware(CrossOrigin, origins=settings.cors_origins)
    return app


async def _store_failed(request: Request, error: Exception) -> Response:
    """What the store raised (Ray wraps it), or that it can't be reached."""
    if not isinstance(error, RayTaskError):
        # It was asked, and may have died only when it had done it.
        return _try_again("the task store is restarting", "what was asked for may have been done")
    if isinstance(error.cause, DatabaseUnavailable):
        return await _unavailable(request, error.cause)
    raise error


async def _unavailable(_: Request, error: Exception) -> Response:
    return _try_again(str(error))


async def _queue_full(_: Request, error: Exception) -> Response:
    status = HTTPStatus.TOO_MANY_REQUESTS
    return _try_again(str(error), status=status, after_s=_RETRY_AFTER_QUEUE_FULL_S)


def _try_again(
    cause: str,
    outcome: str = "nothing was changed",
    *,
    status: HTTPStatus = HTTPStatus.SERVICE_UNAVAILABLE,
    after_s: int = _RETRY_AFTER_S,
) -> Response:
    return problems.problem(
        status,
        f"{cause}: {outcome}; try again in {after_s} seconds",
        headers={"Retry-After": str(after_s)},
    )
