"""The FastAPI application of one service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from ray.exceptions import RayError
from starlette.requests import Request
from starlette.responses import Response

import raytes
from raytes.api import problems
from raytes.api.parameters import Supported
from raytes.api.routes import BASE_PATH, TaskRoutes
from raytes.config import Settings
from raytes.storage import Storage
from raytes.store.client import StoreClient
from raytes.store.database import DatabaseUnavailable

BACKEND_PARAMETERS: Supported = {}
"""The backend parameters that tasks may use, each with the check of its value."""

_RETRY_AFTER_S = "2"


def create_app(settings: Settings) -> FastAPI:
    """The application; its store is looked up when it starts."""
    routes = TaskRoutes(settings, Storage(settings), BACKEND_PARAMETERS)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        routes.store = StoreClient(settings)
        yield
        routes.store.reader.close()

    app = FastAPI(
        title="Task Execution Service",
        version=raytes.__version__,
        lifespan=lifespan,
        openapi_url=f"{BASE_PATH}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(routes.router)
    problems.install(app)
    app.add_exception_handler(DatabaseUnavailable, _unavailable)
    app.add_exception_handler(RayError, _unavailable)
    return app


async def _unavailable(_: Request, error: Exception) -> Response:
    cause = str(error) if isinstance(error, DatabaseUnavailable) else "the task store is restarting"
    return problems.problem(
        503,
        "Service Unavailable",
        f"{cause}: nothing was changed; try again in {_RETRY_AFTER_S} seconds",
        headers={"Retry-After": _RETRY_AFTER_S},
    )
