"""What a service on loopback answers for, with requests as browsers and programs send them."""

import socket
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from raytes.api.app import create_app
from raytes.api.own_host import OwnHost, is_loopback
from raytes.config import Settings

REBOUND = "rebound.example:8000"


def status(host: str, *allowed: str, listens_on: str = "127.0.0.1") -> int:
    client = TestClient(OwnHost(PlainTextResponse("ours"), listens_on, allowed))
    return int(client.get("/", headers={"Host": host}).status_code)


@pytest.mark.parametrize(
    "host",
    [
        REBOUND,
        "",
        "[",
        ":",
        "a" * 300,
        "::1",
        "[::1].a",
        "localhost.rebound.example",
        "127.0.0.1.rebound.example",
        "localhost.127.0.0.1.rebound.example.",
        "notlocalhost",
    ],
)
def test_a_name_that_leads_to_this_machine_is_not_answered(host: str) -> None:
    assert status(host) == 421
    assert status(host, "null", "https://", "https://lab.example") == 421


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8000",
        "localhost:",
        "localhost.:8000",
        "raytes.localhost:8000",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.1:8000",
        "[::1]",
        "[::1]:80",
        "[::1]:",
        "[::ffff:127.0.0.1]:8000",
        "10.0.0.1",
    ],
)
def test_localhost_and_addresses_are_answered(host: str) -> None:
    assert status(host) == 200


@pytest.mark.parametrize("allowed", ["http://rebound.example", f"https://{REBOUND}", "*"])
def test_the_name_of_a_proxy_before_it_is_answered_where_it_is_set(allowed: str) -> None:
    assert status(REBOUND, allowed) == 200


def test_the_name_that_is_listened_on_is_answered() -> None:
    """On Debian that of the machine itself leads to loopback."""
    assert status("Machine:8000", listens_on="machine") == 200
    assert status("other:8000", listens_on="machine") == 421


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


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1.2.3",
        "127.1",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "raytes.localhost",
        "::1",
        "::ffff:127.0.0.1",
    ],
)
def test_loopback_is_what_no_other_machine_reaches(host: str) -> None:
    assert is_loopback(host)


def looked_up(*addresses: str) -> Callable[..., list[Any]]:
    return lambda *_, **__: [(0, 0, 0, "", (address, 0)) for address in addresses]


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [(["127.0.1.1"], True), (["::1", "127.0.0.1"], True), (["127.0.0.1", "10.0.0.1"], False)],
)
def test_a_name_is_loopback_if_all_its_addresses_are(
    addresses: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", looked_up(*addresses))
    assert is_loopback("machine") is expected


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "", ".."])
def test_what_other_machines_may_reach_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_a_name_that_nobody_knows_is_not_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Mock(side_effect=socket.gaierror))
    assert not is_loopback("tes.example")
