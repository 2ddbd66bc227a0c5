from typing import Any

import pytest
from ray.core.generated.common_pb2 import NodeDeathInfo

from raytes.dispatch import losses
from raytes.dispatch.losses import node_lost


def entry(reason: int, message: str = "", **labels: str) -> dict[str, Any]:
    return {
        "NodeManagerHostname": "worker-7",
        "DeathReason": reason,
        "DeathReasonMessage": message,
        "Labels": labels,
    }


SPOT = {"ray.io/market-type": "spot"}


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (entry(2, "missed heartbeats"), "node_lost"),
        (entry(1, "scaled down"), "node_lost"),
        (entry(3, "reclaimed"), "preempted"),
        (entry(2, "missed heartbeats", **SPOT), "preempted"),
        (entry(1, "scaled down", **SPOT), "node_lost"),
        (entry(4, "idle", **SPOT), "node_lost"),
    ],
)
def test_a_reclaimed_node_is_told_from_one_that_is_lost(found: dict[str, Any], reason: str) -> None:
    assert node_lost(found).reason == reason


def test_the_sentence_names_the_node_and_why() -> None:
    assert "worker-7" in node_lost(entry(2, "missed heartbeats")).sentence
    assert "(missed heartbeats)" in node_lost(entry(2, "missed heartbeats")).sentence
    assert "(Ray doesn't say why)" in node_lost(entry(2)).sentence


@pytest.mark.parametrize("name", ["UNEXPECTED_TERMINATION", "AUTOSCALER_DRAIN_PREEMPTED"])
def test_the_reasons_are_ray_s(name: str) -> None:
    assert getattr(losses, name) == getattr(NodeDeathInfo, name)
