"""What a service on loopback answers for, with requests as browsers and programs send them."""

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from raytes.api.app import create_app
from raytes.api.own_host import OwnHost, is_loopback
from raytes.config import Settings

REBOUND = "rebound.example:8000"


def status(host: str, *allowed: str) -> int:
    client = TestClient(OwnHost(PlainTextResponse("ours"), allowed))
    return int(client.get("/", headers={"Host": host}).status_code)


@pytest.mark.parametrize(
    "host",
    [
        REBOUND,
        "",
        "[",
        ":",
        "1.2.3",
        "[::1].a",
        "localhost.rebound.example",
        "127.0.0.1.rebound.example",
    ],
)
def test_a_name_that_leads_to_this_machine_is_not_answered(host: str) -> None:
    assert status(host) == 421
    assert status(host, "null", "https://", "https://lab.example") == 421


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:8000", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:80", "10.0.0.1"],
)
def test_localhost_and_addresses_are_answered(host: str) -> None:
    assert status(host) == 200


@pytest.mark.parametrize("allowed", ["http://rebound.example", f"https://{REBOUND}", "*"])
def test_the_name_of_a_proxy_before_it_is_answered_where_it_is_set(allowed: str) -> None:
    assert status(REBOUND, allowed) == 200


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_a_website_that_is_its_own_host_is_told_nothing(method: str) -> None:
    client = TestClient(create_app(Settings()), base_url=f"http://{REBOUND}")
    answer = client.request(method, "/health", headers={"Origin": f"http://{REBOUND}"})
    assert answer.status_code == 421
    assert REBOUND in answer.json()["detail"]
    assert "`cors_origins`" in answer.json()["detail"]


def test_a_service_for_other_machines_may_have_any_name() -> None:
    client = TestClient(create_app(Settings(host="0.0.0.0")), base_url=f"http://{REBOUND}")
    assert client.get("/nothing").status_code == 404


def test_loopback_is_what_no_other_machine_reaches() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "localhost", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "tes.example")))
