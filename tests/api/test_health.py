"""The health route, with the store's answers given."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI
from ray.exceptions import RayActorError, RayTaskError
from starlette.testclient import TestClient

import raytes
from raytes.api import health, problems
from raytes.config import GB
from raytes.dispatch.health import Health, NodeHealth
from raytes.dispatch.shape import Node
from raytes.runner.condition import Condition
from raytes.store.database import DatabaseUnavailable

NODE = Node("e1f0", cpus=4.0, memory=8 * GB, name="worker-1", address="10.0.0.7", serving=True)
CONDITION = Condition("0.1", "5.2.1", 40 * GB, ("this node can't limit processes",))


def ask(answer: Callable[[], Awaitable[Health]]) -> httpx.Response:
    class Store:
        async def health(self) -> Health:
            return await answer()

    app = FastAPI()
    app.include_router(health.health_route(Store))  # type: ignore[arg-type]
    problems.install(app)
    return TestClient(app).get("/health")


def raising(error: Exception) -> Callable[[], Awaitable[Health]]:
    async def answer() -> Health:
        raise error

    return answer


def test_a_service_that_is_well_tells_of_each_node_what_it_has_and_what_it_lacks() -> None:
    async def answer() -> Health:
        return Health(3, (NodeHealth(NODE, CONDITION, runners=2, tasks=1),), {"orphans": 1})

    reply = ask(answer)
    assert reply.status_code == 200
    found = reply.json()
    assert (found["store"], found["database"]) == ("ok", "ok")
    assert (found["version"], found["queued"]) == (raytes.__version__, 3)
    assert found["repaired"] == {"orphans": 1}
    [node] = found["nodes"]
    assert node == {
        "id": "e1f0", "name": "worker-1", "address": "10.0.0.7", "serving": True,
        "cpus": 4, "memory_gb": 8, "disk_gb": None, "gpus": 0, "gpu_type": "", "zone": "",
        "preemptible": False, "closed": None, "runners": 2, "tasks": 1, "raytes": "0.1",
        "podman": "5.2.1",
        "scratch_free_gb": 40, "shortcomings": ["this node can't limit processes"],
    }  # fmt: skip


def test_a_node_that_gets_no_tasks_is_said_to_be_closed() -> None:
    async def answer() -> Health:
        closed = replace(NODE, closed="it is being drained")
        return Health(0, (NodeHealth(closed, CONDITION, runners=0, tasks=0),), {})

    [node] = ask(answer).json()["nodes"]
    assert node["closed"] == "it is being drained"


def test_a_node_that_has_not_been_looked_at_is_not_said_to_be_well() -> None:
    async def answer() -> Health:
        return Health(0, (NodeHealth(NODE, None, runners=0, tasks=0),), {})

    [node] = ask(answer).json()["nodes"]
    assert node["shortcomings"] is None
    assert node["podman"] is None


def test_a_database_that_takes_nothing_is_503_with_its_words() -> None:
    full = DatabaseUnavailable("the database can't be written: database or disk is full")
    reply = ask(raising(RayTaskError("health", "traceback", full).as_instanceof_cause()))
    assert reply.status_code == 503
    assert reply.headers["content-type"] == "application/problem+json"
    found = reply.json()
    assert (found["store"], found["database"]) == ("ok", str(full))
    assert found["detail"] == str(full)


def test_a_store_that_is_gone_is_503() -> None:
    reply = ask(raising(RayActorError()))
    assert reply.status_code == 503
    assert "restarting" in reply.json()["store"]


def test_a_store_that_does_not_answer_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_PATIENCE_S", 0.01)

    async def answer() -> Health:
        await asyncio.Event().wait()
        raise AssertionError

    reply = ask(answer)
    assert reply.status_code == 503
    assert "has not answered" in reply.json()["detail"]


def test_a_fault_of_the_store_is_not_hidden() -> None:
    fault = RayTaskError("health", "traceback", KeyError("x")).as_instanceof_cause()
    assert ask(raising(fault)).status_code == 500
