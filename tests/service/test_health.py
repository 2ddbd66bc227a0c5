"""What a service says of its own health, on each way that a person would ask."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.service.running import Service

NewService = Callable[..., Service]


def health(url: str) -> httpx.Response:
    return httpx.get(f"{httpx.URL(url).copy_with(path='/health')}")


def test_a_service_tells_its_nodes_and_what_is_on_them(service: Service) -> None:
    service.run("true")
    reply = health(service.url)
    assert reply.status_code == 200
    found = reply.json()
    assert (found["store"], found["database"], found["queued"]) == ("ok", "ok", 0)
    [node] = found["nodes"]
    assert node["serving"]
    assert node["podman"]
    assert node["runners"] >= 1


def test_a_node_without_podman_says_so_at_the_start_and_to_whoever_asks(
    new_service: NewService, tmp_path: Path
) -> None:
    nowhere = tmp_path / "podman.sock"
    service = new_service(RAYTES_PODMAN_SOCKET=str(nowhere)).start(stderr=subprocess.PIPE)
    assert service.process is not None
    assert service.process.stderr is not None
    warning = next(line for line in service.process.stderr if str(nowhere) in line)
    assert warning.startswith("WARNING: node ")
    reply = health(service.url)
    assert reply.status_code == 200
    [node] = reply.json()["nodes"]
    assert node["podman"] is None
    assert str(nowhere) in node["shortcomings"][0]
    shown = subprocess.run(
        [sys.executable, "-m", "raytes", "health", "--server", service.url],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert node["name"] in shown.stdout
    assert str(nowhere) in shown.stderr
    as_json = [sys.executable, "-m", "raytes", "health", "--json", "--server", service.url]
    assert json.loads(subprocess.check_output(as_json))["nodes"][0]["name"] == node["name"]
