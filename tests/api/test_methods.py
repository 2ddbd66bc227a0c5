from collections.abc import AsyncIterator

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import StreamingResponse
from starlette.testclient import TestClient

from raytes.api import methods, problems


def application() -> FastAPI:
    app = FastAPI(openapi_url=None)
    problems.install(app)
    methods.install(app)
    app.include_router(routes())
    app.include_router(routes(), prefix="/included")
    return app


def routes() -> APIRouter:
    router = APIRouter()

    @router.get("/tasks")
    async def tasks() -> str:
        return "all"

    @router.post("/tasks")
    async def create() -> str:
        return "created"

    @router.post("/tasks/{id}:cancel")
    async def cancel(id: str) -> str:
        return id

    @router.get("/stream")
    async def stream() -> StreamingResponse:
        async def lines() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"line\n"

        return StreamingResponse(lines())

    return router


@pytest.fixture
def client() -> TestClient:
    return TestClient(application())


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/tasks", "GET, POST, HEAD, OPTIONS"),
        ("/included/tasks", "GET, POST, HEAD, OPTIONS"),
        ("/tasks/x:cancel", "POST, OPTIONS"),
    ],
)
def test_options_answers_with_all_methods_that_a_path_has(
    client: TestClient, path: str, allowed: str
) -> None:
    answer = client.options(path)
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allowed, b"")
    refusal = client.delete(path)
    assert (refusal.status_code, refusal.headers["allow"]) == (405, allowed)
    assert refusal.json() == {
        "status": 405,
        "title": "Method Not Allowed",
        "detail": f"DELETE is not possible at {path}, only {allowed}",
    }


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "TRACE", "GET"])
def test_a_path_that_is_not_there_is_404_for_every_method(client: TestClient, method: str) -> None:
    assert client.request(method, "/nothing").status_code == 404


def test_head_answers_as_get_without_the_body(client: TestClient) -> None:
    get, head = client.get("/tasks"), client.head("/tasks")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers == get.headers


def test_head_of_a_stream_ends(client: TestClient) -> None:
    head = client.head("/stream")
    assert (head.status_code, head.content) == (200, b"")


def test_head_is_405_where_there_is_no_get(client: TestClient) -> None:
    assert client.head("/tasks/x:cancel").status_code == 405
