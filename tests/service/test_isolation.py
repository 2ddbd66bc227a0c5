"""A task can't drive the cluster: who has no token doesn't get into the service's Ray."""

import json
import os
import re
import socket
import subprocess
import sys
from contextlib import suppress
from glob import glob
from pathlib import Path

import pytest

from tests.service.running import Service

# What every driver does first. `ray.init` would say the same, after half a minute of patience.
_JOIN = """
from ray._raylet import GcsClient
print("in:", len(GcsClient(address="{address}").get_all_node_info(timeout=60)))
"""
# What the tests' own Python needs, so that it runs in any container.
_PYTHON = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", sys.base_prefix, sys.prefix)
_WRONG = "0" * 64
_LISTENS = "0A"  # TCP_LISTEN
_SERVING = ("haproxy", "ray::ServeReplica", "ray::ProxyActor")
# A call of each of Ray's servers, which may be empty, and one of that which runs what it's told.
_KNOCK = """
import grpc, http.client, json, socket

CALLS = (
    "NodeInfoGcsService/GetAllNodeInfo", "NodeManagerService/GetNodeStats",
    "ObjectManagerService/Pull", "CoreWorkerService/GetCoreWorkerStats",
)

def knock(host, port):
    try:
        socket.create_connection((host, port), timeout=60).close()
    except OSError:
        return ["unreachable"]
    with grpc.insecure_channel(f"{{host}}:{{port}}") as channel:
        return [ask(channel, f"/ray.rpc.{{call}}") for call in CALLS] + [post(host, port)]

def ask(channel, call):
    try:
        channel.unary_unary(call)(b"", timeout=60)
    except grpc.RpcError as error:
        return "no gRPC" if error.code().name == "UNAVAILABLE" else error.code().name
    return "OK"

def post(host, port):
    connection = http.client.HTTPConnection(host, port, timeout=60)
    try:
        connection.request("POST", "/get_or_create_runtime_env", b"")
        return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException):
        return "no HTTP"

print(json.dumps([knock(*one) for one in {ports}]))
"""


def address(service: Service) -> str:
    """Where the service's Ray listens for those who want to join."""
    return (service.state_dir / "ray-address").read_text().strip()


def join(service: Service, network: str, *variables: str) -> subprocess.CompletedProcess[str]:
    """Try to join the service's Ray from inside a container."""
    program = _JOIN.format(address=address(service))
    return run(service, network, program, *variables, "RAY_USAGE_STATS_ENABLED=0")


def run(
    service: Service, network: str, program: str, *variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a program in the tests' own Python inside a container."""
    there = [path for path in dict.fromkeys(_PYTHON) if os.path.exists(path)]
    options = [f"--volume={path}:{path}:ro" for path in there]
    options += [f"--env={variable}" for variable in variables]
    options += [] if network == "default" else [f"--network={network}"]
    return subprocess.run(
        ["podman", "run", "--rm", *options, service.image, sys.executable, "-c", program],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def listening(service: Service) -> list[tuple[str, int]]:
    """Where the processes of the service's Ray listen, but for those that serve the API."""
    owners = {}
    for pid, line in service.processes():
        for descriptor in glob(f"/proc/{pid}/fd/*"):
            with suppress(FileNotFoundError):  # closed by now
                owners[os.readlink(descriptor)] = line
    node = address(service).rpartition(":")[0]
    found = []
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, _, _, _, _, _, inode, *_ = row.split()
            number, _, port = local.partition(":")
            host = socket.inet_ntoa(bytes.fromhex(number[-8:])[::-1])
            owner = owners.get(f"socket:[{inode}]")
            serves = host == "127.0.0.1" and any(one in (owner or "") for one in _SERVING)
            if state == _LISTENS and owner and not serves:
                found.append((node if host == "0.0.0.0" else host, int(port, 16)))
    return found


@pytest.mark.parametrize(
    "variables",
    [(), ("RAY_AUTH_MODE=disabled",), ("RAY_AUTH_MODE=token", f"RAY_AUTH_TOKEN={_WRONG}")],
    ids=["no token", "no wish for one", "a wrong token"],
)
def test_a_container_without_the_token_is_refused(
    service: Service, variables: tuple[str, ...]
) -> None:
    tried = join(service, "bridge", *variables)
    assert tried.returncode != 0
    assert "in:" not in tried.stdout
    assert re.search("token|[Uu]nauthenticated", tried.stderr)


@pytest.mark.parametrize("network", ["default", "bridge", "host", "none"])
def test_no_port_lets_a_container_in(service: Service, network: str) -> None:
    ports = listening(service)
    answers = json.loads(run(service, network, _KNOCK.format(ports=ports)).stdout)
    assert len(answers) == len(ports)
    reached = [one for one in answers if one != ["unreachable"]]  # some listen on loopback alone
    if network == "none":
        assert reached == []
        return
    *calls, posts = map(set, zip(*reached, strict=True))
    for got in calls:
        assert {"UNAUTHENTICATED"} <= got <= {"UNAUTHENTICATED", "UNIMPLEMENTED", "no gRPC"}
    # 405: the metrics, which can be read.
    assert {"401"} <= posts <= {"401", "405", "no HTTP"}


@pytest.mark.parametrize("network", ["bridge", "host"])
def test_it_is_the_token_that_a_container_lacks(service: Service, network: str) -> None:
    token = (service.state_dir / "ray-token").read_text()
    tried = join(service, network, "RAY_AUTH_MODE=token", f"RAY_AUTH_TOKEN={token}")
    assert "in: 1" in tried.stdout, tried.stderr


def test_a_notebook_joins_as_the_documentation_says(service: Service) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "laptop.md"
    [program] = [
        block for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
        if "ray-address" in block
    ]  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", program.replace("raytes-state", str(service.state_dir))],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "'CPU'" in ran.stdout, ran.stderr


def test_the_token_is_not_in_a_container(service: Service) -> None:
    token = (service.state_dir / "ray-token").read_text()
    task = service.run("sh", "-c", "env; cat /proc/self/mountinfo; find / -name '*token*'")
    [executor] = (task.logs or [])[0].logs
    assert token not in (executor.stdout or "")
    assert "RAY" not in (executor.stdout or "")
    assert "ray-token" not in (executor.stdout or "")
