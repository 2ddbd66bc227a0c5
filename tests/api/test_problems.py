import logging
from collections.abc import AsyncIterator

import orjson
import pytest
from fastapi import APIRouter, FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

from raytes.api.invalid import FieldError, InvalidDocument
from raytes.api.problems import install, problem
from raytes.models import JsonObject


def application() -> FastAPI:
    app = FastAPI()
    install(app)
    app.include_router(routes())
    app.include_router(routes(), prefix="/included")
    return app


def routes() -> APIRouter:
    router = APIRouter()

    @router.get("/tasks")
    async def tasks() -> str:
        return "all"

    @router.post("/tasks")
    async def create() -> None:
        raise InvalidDocument([FieldError("executors[0].image", "must not be empty")])

    @router.get("/tasks/{id}")
    async def task(id: str) -> None:
        raise HTTPException(404, f"there is no task {id}")

    @router.get("/busy")
    async def busy() -> None:
        raise HTTPException(503, "the disk is full", headers={"Retry-After": "5"})

    @router.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the secret is 42")

    @router.get("/gone")
    async def gone() -> None:
        raise ClientDisconnect

    @router.get("/stream")
    async def stream() -> StreamingResponse:
        async def lines() -> AsyncIterator[bytes]:
            yield b"first"
            raise RuntimeError("in the middle")

        return StreamingResponse(lines())

    return router


@pytest.fixture
def client() -> TestClient:
    return TestClient(application())


def test_a_problem_has_its_media_type_and_members() -> None:
    reply = problem(400, "no", [FieldError("name", "is wrong")], {"X-A": "b"})
    assert reply.status_code == 400
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["x-a"] == "b"
    assert orjson.loads(reply.body) == {
        "status": 400,
        "title": "Bad Request",
        "detail": "no",
        "errors": [{"field": "name", "message": "is wrong"}],
    }


def test_a_problem_without_mistakes_has_no_list_of_them() -> None:
    assert "errors" not in orjson.loads(problem(404, "no").body)


def test_a_problem_can_quote_what_is_no_text() -> None:
    reply = problem(400, "no \udc80", [FieldError("a\udc80", "b\udc80")])
    content = orjson.loads(reply.body)
    assert content["detail"] == "no \ufffd"
    assert content["errors"] == [{"field": "a\ufffd", "message": "b\ufffd"}]


def check(client: TestClient, method: str, path: str, status: int) -> JsonObject:
    reply = client.request(method, path)
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    content: JsonObject = reply.json()
    assert content["status"] == status
    assert content["title"]
    return content


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_an_unknown_path_is_404_for_every_method(client: TestClient, method: str) -> None:
    assert check(client, method, "/v1/tasks", 404)["detail"] == "there is nothing at /v1/tasks"


def test_a_handlers_own_words_are_the_detail(client: TestClient) -> None:
    assert check(client, "GET", "/tasks/x", 404)["detail"] == "there is no task x"


def test_the_headers_of_an_error_are_kept(client: TestClient) -> None:
    assert check(client, "GET", "/busy", 503)["detail"] == "the disk is full"
    assert client.get("/busy").headers["retry-after"] == "5"


def test_an_invalid_document_is_400_with_its_mistakes(client: TestClient) -> None:
    assert check(client, "POST", "/tasks", 400)["errors"] == [
        {"field": "executors[0].image", "message": "must not be empty"}
    ]


def test_an_unexpected_error_is_logged_and_its_words_are_not_shown(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "raytes.api.problems"):
        content = check(client, "GET", "/broken", 500)
    assert "42" not in str(content)
    (record,) = caplog.records
    assert record.getMessage() == "GET /broken failed"
    assert record.exc_info is not None
    assert "42" in str(record.exc_info[1])


def test_an_error_after_the_reply_has_begun_is_left_to_the_server(client: TestClient) -> None:
    with pytest.raises(RuntimeError, match="in the middle"):
        client.get("/stream")


def test_a_client_that_hung_up_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    client = TestClient(application(), raise_server_exceptions=False)
    client.get("/gone")
    assert not caplog.records
