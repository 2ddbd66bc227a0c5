"""GPUs, as far as they can be tested without one: what the container is created with."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raytes.models import TesExecutor
from raytes.runner.executor import Limits, Sandbox, specification
from tests.runner.conftest import Bench

_CDI = Path("/var/run/cdi")

LIMITS = Limits(cpu_cores=1, memory=10**9, pids=10, shm=10**6, enforced=["cpu", "memory", "pids"])
SANDBOX = Sandbox(
    name="n", labels={}, limits=LIMITS, network="none", gpus=(), run_entrypoint=False,
    stop_grace=0.0, log_tail_bytes=1,
)  # fmt: skip


def created(sandbox: Sandbox) -> dict[str, Any]:
    executor = TesExecutor(image="i", command=["c"])
    return specification(executor, [], sandbox, [], with_stdin=False)


def test_a_container_gets_exactly_the_gpus_that_ray_has_assigned() -> None:
    wanted = created(replace(SANDBOX, gpus=("1", "3")))
    assert wanted["devices"] == [{"path": "nvidia.com/gpu=1"}, {"path": "nvidia.com/gpu=3"}]


def test_a_container_gets_no_gpu_otherwise() -> None:
    assert created(SANDBOX)["devices"] == []


def test_limits_that_the_node_can_not_enforce_are_left_out() -> None:
    limits = replace(LIMITS, enforced=["memory"])
    wanted = created(replace(SANDBOX, limits=limits))
    assert list(wanted["resource_limits"]) == ["memory"]


@pytest.fixture
def two_gpus() -> Iterator[None]:
    """Two GPUs as the Container Device Interface describes them; each is /dev/null."""
    devices = [
        {
            "name": name,
            "containerEdits": {
                "deviceNodes": [{"path": f"/dev/nvidia{name}", "hostPath": "/dev/null"}]
            },
        }
        for name in ("0", "1")
    ]
    description = {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices}
    was_there = _CDI.exists()
    _CDI.mkdir(exist_ok=True)
    file = _CDI / "raytes-test.json"
    file.write_text(json.dumps(description))
    yield
    file.unlink()
    if not was_there:
        _CDI.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can describe devices")
def test_podman_hands_the_gpus_over_by_their_cdi_names(bench: Bench, two_gpus: None) -> None:
    one = replace(bench, node=replace(bench.node, gpus=("1",)))
    assert one.sh("ls /dev | grep nvidia").stdout() == "nvidia1\n"
    assert bench.sh("ls /dev | grep nvidia || true").stdout() == ""


def test_a_gpu_that_podman_does_not_know_is_a_system_error_that_names_it(bench: Bench) -> None:
    attempt = replace(bench, node=replace(bench.node, gpus=("7",))).sh("true")
    assert attempt.failure_reason == "container_refused"
    assert "nvidia.com/gpu=7" in attempt.system_logs
