"""A task can't drive the cluster: who has no token doesn't get into the service's Ray."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.running import Service

# What every driver does first. `ray.init` would say the same, after half a minute of patience.
_JOIN = """
from ray._raylet import GcsClient
print("in:", len(GcsClient(address="{address}").get_all_node_info(timeout=20)))
"""
# What the tests' own Python needs, so that it runs in any container.
_PYTHON = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", sys.base_prefix, sys.prefix)
_WRONG = "0" * 64


def address(service: Service) -> str:
    """Where the service's Ray listens for those who want to join."""
    return (service.state_dir / "ray-address").read_text().strip()


def join(service: Service, network: str, *variables: str) -> subprocess.CompletedProcess[str]:
    """Try to join the service's Ray from inside a container."""
    there = [path for path in dict.fromkeys(_PYTHON) if os.path.exists(path)]
    mounts = [f"--volume={path}:{path}:ro" for path in there]
    return subprocess.run(
        ["podman", "run", "--rm", f"--network={network}", *mounts,
         *(f"--env={variable}" for variable in (*variables, "RAY_USAGE_STATS_ENABLED=0")),
         service.image, sys.executable, "-c", _JOIN.format(address=address(service))],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("network", ["bridge", "host"])
@pytest.mark.parametrize(
    "variables",
    [(), ("RAY_AUTH_MODE=disabled",), ("RAY_AUTH_MODE=token", f"RAY_AUTH_TOKEN={_WRONG}")],
    ids=["no token", "no wish for one", "a wrong token"],
)
def test_a_container_without_the_token_is_refused(
    service: Service, network: str, variables: tuple[str, ...]
) -> None:
    tried = join(service, network, *variables)
    assert tried.returncode != 0
    assert "in:" not in tried.stdout
    assert re.search("token|[Uu]nauthenticated", tried.stderr)


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
