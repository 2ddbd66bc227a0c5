"""Why a runner can't speak for its attempt any more, told from what Ray knows."""

from collections.abc import Mapping
from typing import Any

from raytes.dispatch.shape import MARKET_LABEL
from raytes.store.changes import PREEMPTED, SERVICE_STOPPED, Loss

STOPPED = Loss(SERVICE_STOPPED, "The service was stopped while this attempt was running.")
NO_OWNER = Loss("runner_lost", "Nothing was known any more of the runner of this attempt.")

UNREADABLE = Loss("internal_error", "This attempt could not be taken up again after a restart.")

# NodeDeathInfo.Reason in Ray's common.proto: nothing of Ray's public API has these names.
UNEXPECTED_TERMINATION = 2
AUTOSCALER_DRAIN_PREEMPTED = 3


def runner_lost(node: str) -> Loss:
    """The runner died, and the node that it was on lives."""
    return Loss("runner_lost", f"The runner of this attempt died on node {node}.")


def node_lost(entry: Mapping[str, Any]) -> Loss:
    """The node died; `entry` is what `ray.nodes()` says of it.

    A spot node that went unexpectedly is taken to have been reclaimed: few providers' notices
    reach Ray before the node is gone.
    """
    name = entry["NodeManagerHostname"]
    why = entry.get("DeathReasonMessage") or "Ray doesn't say why"
    reason = entry.get("DeathReason")
    spot = entry.get("Labels", {}).get(MARKET_LABEL) == "spot"
    if reason == AUTOSCALER_DRAIN_PREEMPTED or (spot and reason == UNEXPECTED_TERMINATION):
        return Loss(PREEMPTED, f"Node {name}, where this attempt ran, was reclaimed ({why}).")
    return Loss("node_lost", f"Node {name}, where this attempt ran, was lost ({why}).")
