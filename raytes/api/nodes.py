"""The nodes of the service, at paths of our own beside the specification's: to drain one."""

import math
from collections.abc import Callable
from http import HTTPStatus

import orjson
from fastapi import APIRouter, Request, Response
from ray.exceptions import RayTaskError
from starlette.exceptions import HTTPException

from raytes.api.route import Route
from raytes.dispatch.shape import Node
from raytes.errors import UnknownNode
from raytes.store.client import StoreClient

PATH = "/nodes/{node}/drain"


def node_routes(store: Callable[[], StoreClient]) -> APIRouter:
    """The routes. `store` is asked at each request: there is none before the start."""
    router = APIRouter(route_class=Route, include_in_schema=False)

    @router.put(PATH)
    async def drain(node: str, request: Request) -> Response:
        """Begin no more tasks on a node; those that run there are given back after `timeout`
        seconds (`drain_timeout` if it isn't given)."""
        timeout = _seconds(request.query_params.get("timeout"))
        try:
            return _shown(await store().drain_node(node, timeout))
        except RayTaskError as error:
            raise _not_found(error) from None

    @router.delete(PATH)
    async def undrain(node: str) -> Response:
        """Begin tasks on a node again."""
        try:
            return _shown(await store().undrain_node(node))
        except RayTaskError as error:
            raise _not_found(error) from None

    return router


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise HTTPException(
            HTTPStatus.BAD_REQUEST, f"timeout is {text!r}: say a number of seconds, 0 or more"
        )
    return seconds


def _not_found(error: RayTaskError) -> Exception:
    if isinstance(error.cause, UnknownNode):
        return HTTPException(HTTPStatus.NOT_FOUND, str(error.cause))
    return error


def _shown(node: Node) -> Response:
    document = {"id": node.id, "name": node.name, "closed": node.closed or None}
    return Response(orjson.dumps(document), media_type="application/json")
