"""Which requests go past Ray Serve's way."""

from collections.abc import Iterator

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from raytes.api import direct
from raytes.api.direct import Direct, answer_here

serve: ASGIApp = PlainTextResponse("Serve")


@pytest.fixture(autouse=True)
def nobody_after() -> Iterator[None]:
    yield
    answer_here(None)


def answered_by(path: str) -> str:
    (around,) = direct.middlewares()
    assert around.cls is Direct
    return TestClient(Direct(serve)).get(path).text


def test_the_application_answers_and_not_serve() -> None:
    answer_here(PlainTextResponse("the application"))
    assert answered_by("/ga4gh/tes/v1/tasks") == "the application"


def test_serve_answers_whether_the_replica_is_well() -> None:
    answer_here(PlainTextResponse("the application"))
    assert answered_by("/-/healthz") == "Serve"


def test_serve_answers_where_no_application_is() -> None:
    assert answered_by("/ga4gh/tes/v1/tasks") == "Serve"
