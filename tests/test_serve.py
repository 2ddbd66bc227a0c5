"""What `raytes serve` does itself, beside the parts that it starts."""

import os
import socket
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from raytes import serve
from raytes.models import BASE_PATH
from tests.scripted_server import Reply, scripted_server


def test_the_service_is_asked_whether_it_answers_and_no_proxy_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serve, "_READY_WITHIN_S", 10.0)
    with socket.socket() as nobody_listens, scripted_server() as service:
        nobody_listens.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{nobody_listens.getsockname()[1]}"
        for variable in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(variable, raising=False)
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(variable, proxy)
        service.on("GET", "/service-info", Reply(status=503), {})
        serve._await_answer(service.url + BASE_PATH)
        assert len(service.sent("GET", "/service-info")) == 2


def test_a_stop_is_heeded_while_the_first_look_at_the_nodes_lasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, tell = os.pipe()
    looks = SimpleNamespace(health=SimpleNamespace(remote=lambda patience_s: "a look"))

    def wait(_: list[str], timeout: float) -> tuple[list[str], list[str]]:
        os.write(tell, b"\x0f")  # SIGTERM comes
        return [], ["a look"]

    def get(*_: Any) -> None:
        pytest.fail("this lasts as long as the store hangs")

    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "get", get)
    assert list(serve._shortcomings(looks, told)) == []
    assert os.read(told, 1) == b"\x0f"  # whoever stops the service is to see it
