"""The service's health, at a path of our own beside the specification's."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import orjson
from fastapi import APIRouter, Response
from ray.exceptions import RayError, RayTaskError

import raytes
from raytes.api import problems
from raytes.api.route import Route
from raytes.config import GB
from raytes.dispatch.health import Health, NodeHealth
from raytes.models import JsonObject
from raytes.store.client import StoreClient
from raytes.store.database import DatabaseUnavailable

PATH: Final = "/health"

_PATIENCE_S: Final = 5.0
_OK: Final = "ok"


def health_route(store: Callable[[], StoreClient]) -> APIRouter:
    """The route. `store` is asked at each request: there is none before the start."""
    router = APIRouter(route_class=Route, include_in_schema=False)

    @router.get(PATH)
    async def health() -> Response:
        """200 if tasks can be created and run, else 503; how the nodes are, either way."""
        try:
            found = await asyncio.wait_for(store().health(), _PATIENCE_S)
        except TimeoutError:
            return _ill(store=f"the task store has not answered within {_PATIENCE_S:g} seconds")
        except RayError as error:
            if not isinstance(error, RayTaskError):
                return _ill(store="the task store is restarting")
            if isinstance(error.cause, DatabaseUnavailable):
                return _ill(database=str(error.cause))
            raise
        document = {**_parts(), **_document(found)}
        return Response(
            orjson.dumps(document),
            media_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    return router


def _ill(store: str = _OK, database: str = _OK) -> Response:
    detail = next(words for words in (store, database) if words != _OK)
    return problems.problem(
        HTTPStatus.SERVICE_UNAVAILABLE, detail, more=_parts(store=store, database=database)
    )


def _parts(store: str = _OK, database: str = _OK) -> JsonObject:
    return {"version": raytes.__version__, "store": store, "database": database}


def _document(health: Health) -> JsonObject:
    return {
        "queued": health.queued,
        "repaired": health.repaired,
        "nodes": [_of_node(each) for each in health.nodes],
    }


def _of_node(health: NodeHealth) -> JsonObject:
    node, condition = health.node, health.condition
    return {
        "id": node.id,
        "name": node.name,
        "address": node.address,
        "serving": node.serving,
        "cpus": node.cpus,
        "memory_gb": node.memory / GB,
        "disk_gb": node.disk_gb,
        "gpus": node.gpus,
        "gpu_type": node.gpu_type,
        "zone": node.zone,
        "preemptible": node.spot,
        "closed": node.closed or None,
        "runners": health.runners,
        "tasks": health.tasks,
        "raytes": condition and condition.raytes,
        "podman": condition and condition.podman,
        "scratch_free_gb": condition and _gigabytes(condition.scratch_free),
        "shortcomings": condition and condition.shortcomings,
    }


def _gigabytes(size: int | None) -> float | None:
    return None if size is None else size / GB
