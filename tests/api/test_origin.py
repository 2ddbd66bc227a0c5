"""What a browser may send on behalf of a website, with requests as browsers send them."""

import httpx
import pytest
from starlette.testclient import TestClient

from raytes.api.app import create_app
from raytes.config import Settings
from raytes.models import BASE_PATH

HOST = "tes.example:8000"
OTHER = "https://elsewhere.example"
# As `fetch(url, {method: "POST", mode: "no-cors", body: new Blob([json])})` does: no preflight.
BODY = b'{"executors": 1}'


def post(
    origin: str | None, *allowed: str, path: str = f"{BASE_PATH}/tasks", method: str = "POST"
) -> httpx.Response:
    app = create_app(Settings(host="0.0.0.0", cors_origins=allowed))
    client = TestClient(app, base_url=f"http://{HOST}")
    headers = {} if origin is None else {"Origin": origin}
    answer: httpx.Response = client.request(method, path, content=BODY, headers=headers)
    return answer


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{BASE_PATH}/tasks"),
        ("POST", f"{BASE_PATH}/tasks/one:cancel"),
        ("PUT", "/nodes/worker/drain"),
        ("DELETE", "/nodes/worker/drain"),
    ],
)
def test_another_website_changes_nothing(method: str, path: str) -> None:
    answer = post(OTHER, path=path, method=method)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert OTHER in answer.json()["detail"]
    assert "`cors_origins`" in answer.json()["detail"]


@pytest.mark.parametrize(
    "origin",
    ["null", "", "http://[", "http://tes.example", "http://tes.example:8001", f"x{HOST}", HOST],
)
def test_what_is_not_this_host_is_another_website(origin: str) -> None:
    assert post(origin).status_code == 403
    assert post(origin, "https://lab.example").status_code == 403


@pytest.mark.parametrize("origin", [None, f"http://{HOST}", f"https://{HOST.upper()}"])
def test_programs_and_pages_of_this_host_are_heard(origin: str | None) -> None:
    assert post(origin).status_code == 400


@pytest.mark.parametrize(
    ("origin", "allowed"), [("https://lab.example", "https://lab.example"), (OTHER, "*")]
)
def test_a_website_that_is_allowed_is_heard(origin: str, allowed: str) -> None:
    answer = post(origin, allowed)
    assert answer.status_code == 400
    assert answer.headers["access-control-allow-origin"] in (origin, "*")


def test_every_website_may_ask_without_changing_anything() -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        assert post(OTHER, path="/nothing", method=method).status_code == 404
