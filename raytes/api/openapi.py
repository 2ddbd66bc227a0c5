"""The OpenAPI document of the API, and a page that shows it: both as bytes, made once.

The document is FastAPI's, brought to the words of the specification: errors are problems,
an optional field is absent and not null, and paths stand below the server's base path.
"""

from typing import Any

import orjson
from fastapi import APIRouter, Response
from fastapi.openapi.utils import get_openapi

from raytes.api import problems
from raytes.api.docs_page import docs_page
from raytes.api.route import Route
from raytes.api.service_info import TES_VERSION
from raytes.models import JsonObject


def description_routes(api: APIRouter) -> APIRouter:
    """The routes that describe `api`: `openapi.json` and `docs`, below the same prefix."""
    document = openapi(api)
    as_json, as_page = orjson.dumps(document), docs_page(document).encode()
    router = APIRouter(prefix=api.prefix, route_class=Route, include_in_schema=False)

    @router.get("/openapi.json")
    async def openapi_json() -> Response:
        return Response(as_json, media_type="application/json")

    @router.get("/docs")
    async def docs() -> Response:
        return Response(as_page, media_type="text/html; charset=utf-8")

    return router


def openapi(api: APIRouter) -> JsonObject:
    """The OpenAPI document of the routes of `api`."""
    document = get_openapi(
        title="Task Execution Service",
        version=TES_VERSION,
        description="The Task Execution Service API of the Global Alliance for Genomics and "
        "Health, as this server has it.",
        routes=api.routes,
    )
    for item in document["paths"].values():
        for operation in item.values():
            # FastAPI's own answer to a wrong parameter, which is a problem with 400 here.
            operation["responses"].pop("422", None)
    schemas = document["components"]["schemas"] | {"Problem": problems.SCHEMA}
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    paths = {path.removeprefix(api.prefix): item for path, item in document["paths"].items()}
    return {
        **document,
        "servers": [{"url": api.prefix}],
        "paths": _plain(paths),
        "components": {"schemas": _plain(schemas)},
    }


def _plain(value: Any) -> Any:
    """Without what Python says and JSON doesn't: fields that can be None, and made-up titles."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {
        name: _plain(item)
        for name, item in value.items()
        if name != "title" or not isinstance(item, str)
    }
    match value.get("anyOf"):
        case [schema, {"type": "null"}]:
            del value["anyOf"]
            return {**schema, **value}
    return value
