from typing import Annotated, Any

import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Query
from fastapi.responses import JSONResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

from raytes.api import problems
from raytes.api.openapi import openapi
from raytes.api.route import Route
from raytes.views import View


def router() -> APIRouter:
    router = APIRouter(route_class=Route)

    @router.get("/items/{id}", response_model=dict)
    async def item(
        id: str,
        view: View = View.MINIMAL,
        size: Annotated[int, Query(ge=1, le=9, description="How many.")] = 5,
        keys: Annotated[list[str], Query(max_length=2)] = [],  # noqa: B006
    ) -> Response:
        keys.append("end")  # nobody else may see it
        return JSONResponse({"id": id, "view": view, "size": size, "keys": keys})

    @router.post("/items")
    async def create(request: Request) -> Response:
        return Response(await request.body())

    @router.get("/missing")
    async def missing() -> Response:
        raise HTTPException(404, "it is missing")

    return router


@pytest.fixture
def client() -> TestClient:
    app = FastAPI(routes=router().routes)
    problems.install(app)
    return TestClient(app)


def answer(client: TestClient, path: str) -> Any:
    reply = client.get(path)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_what_is_not_given_is_the_default(client: TestClient) -> None:
    for _ in range(2):
        assert answer(client, "/items/x") == {
            "id": "x", "view": "MINIMAL", "size": 5, "keys": ["end"]
        }  # fmt: skip


def test_parameters_have_their_types(client: TestClient) -> None:
    found = answer(client, "/items/x?view=FULL&size=7&keys=a&keys=b%20c")
    assert found == {"id": "x", "view": "FULL", "size": 7, "keys": ["a", "b c", "end"]}


def test_the_last_of_several_values_counts_and_unknown_ones_do_not(client: TestClient) -> None:
    found = answer(client, "/items/x?size=7&size=8&id=other&nothing=1")
    assert (found["id"], found["size"]) == ("x", 8)


def test_all_mistakes_are_named(client: TestClient) -> None:
    reply = client.get("/items/x?view=ALL&size=&keys=1&keys=2&keys=3")
    assert reply.status_code == 400
    assert {error["field"] for error in reply.json()["errors"]} == {"view", "size", "keys"}


@pytest.mark.parametrize(
    ("query", "field", "message"),
    [
        ("size=0", "size", "must not be less than 1"),
        ("size=many", "size", "must be an integer"),
        ("view=ALL", "view", "must be 'MINIMAL', 'BASIC' or 'FULL'"),
    ],
)
def test_a_mistake_is_told_in_words(
    client: TestClient, query: str, field: str, message: str
) -> None:
    errors = client.get(f"/items/x?{query}").json()["errors"]
    assert errors == [{"field": field, "message": message}]


def test_an_endpoint_may_take_the_request_itself(client: TestClient) -> None:
    assert client.post("/items", content=b"body").content == b"body"


def test_what_an_endpoint_raises_is_a_problem(client: TestClient) -> None:
    assert client.get("/missing").json()["detail"] == "it is missing"


def test_the_parameters_are_in_the_openapi_document() -> None:
    [path, view, size, keys] = openapi(router())["paths"]["/items/{id}"]["get"]["parameters"]
    assert (path["in"], view["in"]) == ("path", "query")
    assert size["description"] == "How many."
    assert (size["schema"]["minimum"], keys["schema"]["maxItems"]) == (1, 2)
