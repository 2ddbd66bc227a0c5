"""The application as it is put together; what needs a store is tested with a service."""

import httpx
import pytest
from ray.exceptions import RayActorError, RayTaskError
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

from raytes.api.app import create_app
from raytes.config import Settings
from raytes.models import BASE_PATH
from raytes.store.database import DatabaseUnavailable

PREFLIGHT = {"Origin": "https://lab.example", "Access-Control-Request-Method": "POST"}


def client(**settings: object) -> TestClient:
    return TestClient(create_app(Settings(**settings)), base_url="http://localhost")


def test_other_websites_are_not_answered_unless_they_are_named() -> None:
    silent = client().options(f"{BASE_PATH}/tasks", headers=PREFLIGHT)
    assert "access-control-allow-origin" not in silent.headers
    answer = client(cors_origins=("https://lab.example",)).options(
        f"{BASE_PATH}/tasks", headers=PREFLIGHT
    )
    assert answer.headers["access-control-allow-origin"] == "https://lab.example"


def test_refusals_can_be_read_by_websites_too() -> None:
    answer = client(cors_origins=("*",)).get("/nothing", headers={"Origin": "https://any.example"})
    assert answer.status_code == 404
    assert answer.headers["access-control-allow-origin"] == "*"


DISK_FULL = DatabaseUnavailable("the disk is full")


def from_the_store(error: Exception) -> Exception:
    """The error as Ray raises it here when the store has raised it there."""
    raised: Exception = RayTaskError("create", "traceback", error).as_instanceof_cause()
    return raised


@pytest.mark.parametrize("error", [DISK_FULL, from_the_store(DISK_FULL)], ids=["here", "there"])
def test_a_database_that_cant_be_used_is_503_with_its_cause(error: Exception) -> None:
    answer = failing_with(error)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["detail"].startswith("the disk is full: nothing was changed; try again")


def test_a_store_that_is_gone_is_503() -> None:
    answer = failing_with(RayActorError())
    assert answer.status_code == 503
    assert "may have been done" in answer.json()["detail"]


def test_a_fault_of_the_store_is_500_without_its_words() -> None:
    answer = failing_with(from_the_store(KeyError("secret")))
    assert answer.status_code == 500
    assert "secret" not in answer.text


def failing_with(error: Exception) -> httpx.Response:
    app = create_app(Settings())

    async def failing(_: Request) -> Response:
        raise error

    app.router.add_route("/failing", failing)
    return TestClient(app, base_url="http://localhost").get("/failing")
