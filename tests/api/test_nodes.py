"""The routes that drain a node, with the store's answers given."""

from dataclasses import replace

import pytest
from ray.exceptions import RayTaskError
from starlette.applications import Starlette
from starlette.testclient import TestClient

from raytes.api import nodes, problems
from raytes.dispatch.shape import Node
from raytes.errors import UnknownNode

NODE = Node("e1f0", cpus=4.0, memory=8, name="worker-1")


class Store:
    """Knows one node."""

    def __init__(self) -> None:
        self.graces: list[float | None] = []

    async def drain_node(self, name: str, grace_s: float | None) -> Node:
        self.graces.append(grace_s)
        return replace(await self.undrain_node(name), closed="it is being drained")

    async def undrain_node(self, name: str) -> Node:
        if name != NODE.name:
            unknown = UnknownNode(f"no node is called {name}")
            raise RayTaskError("drain_node", "traceback", unknown).as_instanceof_cause()
        return NODE


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def client(store: Store) -> TestClient:
    router = nodes.node_routes(lambda: store)  # type: ignore[arg-type, return-value]
    app = Starlette(routes=router.routes)
    problems.install(app)
    return TestClient(app)


def test_a_node_is_drained_and_put_to_use_again(client: TestClient, store: Store) -> None:
    reply = client.put("/nodes/worker-1/drain", params={"timeout": "2.5"})
    assert reply.status_code == 200
    assert reply.json() == {"id": "e1f0", "name": "worker-1", "closed": "it is being drained"}
    assert client.put("/nodes/worker-1/drain").status_code == 200
    assert store.graces == [2.5, None]
    assert client.delete("/nodes/worker-1/drain").json()["closed"] is None


@pytest.mark.parametrize("timeout", ["soon", "-1", "nan", "inf", ""])
def test_a_timeout_that_is_no_number_of_seconds_is_400(client: TestClient, timeout: str) -> None:
    reply = client.put("/nodes/worker-1/drain", params={"timeout": timeout})
    assert reply.status_code == 400
    assert "number of seconds" in reply.json()["detail"]


def test_a_node_that_is_not_there_is_404_with_a_sentence(client: TestClient) -> None:
    for reply in (client.put("/nodes/nowhere/drain"), client.delete("/nodes/nowhere/drain")):
        assert reply.status_code == 404
        assert reply.json()["detail"] == "no node is called nowhere"
