import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from raytes.api.cors import CrossOrigin

OURS, OTHER = "https://lab.example", "https://elsewhere.example"


def client(*origins: str) -> TestClient:
    app = FastAPI(openapi_url=None)
    app.add_middleware(CrossOrigin, origins=origins)

    @app.get("/tasks")
    async def tasks() -> str:
        return "all"

    return TestClient(app)


def ask(
    origin: str, method: str = "POST", headers: str = "authorization,content-type"
) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }


@pytest.mark.parametrize(("allowed", "said"), [(OURS, OURS), ("*", "*")])
def test_a_website_that_is_allowed_may_ask_and_read(allowed: str, said: str) -> None:
    browser = client(allowed)
    before = browser.options("/tasks", headers=ask(OURS))
    assert before.status_code == 200
    assert before.headers["access-control-allow-origin"] == said
    assert "POST" in before.headers["access-control-allow-methods"]
    answer = browser.get("/tasks", headers={"Origin": OURS})
    assert answer.headers["access-control-allow-origin"] == said
    # What is the same for all may be kept for all.
    assert said == "*" or "Origin" in answer.headers["vary"]


def test_another_website_may_not_read() -> None:
    answer = client(OURS).get("/tasks", headers={"Origin": OTHER})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        (ask(OTHER), "origin"),
        (ask(OURS, method="DELETE"), "method"),
        (ask(OURS, headers="x-secret"), "headers"),
    ],
)
def test_a_refusal_is_a_problem_that_says_what_is_refused(
    headers: dict[str, str], refused: str
) -> None:
    answer = client(OURS).options("/tasks", headers=headers)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == f"Disallowed CORS {refused}"
    assert "access-control-allow-origin" not in answer.headers
