"""What a service on loopback answers for, with requests as browsers and programs send them."""

import pytest
from starlette.testclient import TestClient

from raytes.api.app import create_app
from raytes.config import Settings

REBOUND = "rebound.example:8000"


def status(host: str, *allowed: str, listening: str = "127.0.0.1", method: str = "GET") -> int:
    app = create_app(Settings(host=listening, cors_origins=allowed))
    client = TestClient(app, base_url="http://localhost")
    headers = {"Host": host, "Origin": f"http://{host}"}
    answer = client.request(method, "/nothing", headers=headers)
    return int(answer.status_code)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize("listening", ["127.0.0.1", "127.1.2.3", "localhost", "::1"])
def test_a_website_whose_name_leads_to_this_machine_is_told_nothing(
    method: str, listening: str
) -> None:
    assert status(REBOUND, listening=listening, method=method) == 421


@pytest.mark.parametrize(
    "host",
    ["", "[", ":", "localhost.rebound.example", "127.0.0.1.rebound.example", "1.2.3", "[::1].a"],
)
def test_what_only_looks_like_an_address_is_a_name(host: str) -> None:
    assert status(host) == 421
    assert status(host, "null", "https://", "https://lab.example") == 421


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:8000", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:80", "10.0.0.1"],
)
def test_localhost_and_addresses_are_answered(host: str) -> None:
    assert status(host) == 404


@pytest.mark.parametrize("allowed", ["http://rebound.example", f"https://{REBOUND}", "*"])
def test_the_name_of_a_proxy_before_it_is_answered_where_it_is_set(allowed: str) -> None:
    assert status(REBOUND, allowed) == 404


@pytest.mark.parametrize("listening", ["0.0.0.0", "::", "10.0.0.1", "tes.example"])
def test_a_service_for_other_machines_may_have_any_name(listening: str) -> None:
    assert status(REBOUND, listening=listening) == 404


def test_a_refusal_says_what_to_do() -> None:
    client = TestClient(create_app(Settings()), base_url=f"http://{REBOUND}")
    problem = client.get("/health").json()
    assert REBOUND in problem["detail"]
    assert "`cors_origins`" in problem["detail"]
