"""Why attempts at tasks fail: the codes that stand as `failure_reason` in their metadata."""

from dataclasses import dataclass
from typing import Final, Literal

FailureReason = Literal[
    "executor_error",
    "out_of_memory",
    "timeout",
    "disk_full",
    "image_pull",
    "input_failed",
    "missing_output",
    "output_failed",
    "forbidden_url",
    "invalid_mounts",
    "infeasible",
    "container_refused",
    "container_lost",
    "podman_unavailable",
    "runner_lost",
    "node_lost",
    "preempted",
    "service_stopped",
    "system_error",
    "internal_error",
]


@dataclass(frozen=True, slots=True)
class Failure:
    """What a code tells a person."""

    meaning: str
    tried_again: Literal["no", "yes", "if it may pass"]
    advice: str


FAILURES: Final[dict[FailureReason, Failure]] = {
    "executor_error": Failure(
        "A command ended with another exit code than 0 (127: there is no such program in the "
        "image; 126: it can't be executed; 128 and a number: a signal ended it).",
        "no",
        "Read `stdout` and `stderr` of the last executor in `logs`.",
    ),
    "out_of_memory": Failure(
        "A command was killed because it needed more memory than the task is allowed.",
        "no",
        "Ask for more `ram_gb`.",
    ),
    "timeout": Failure(
        "The executors ran for longer than `max_runtime`.",
        "no",
        "Ask for more with the backend parameter of that name, up to the setting.",
    ),
    "disk_full": Failure(
        "EXECUTOR_ERROR: the task wrote more than its `disk_gb`. SYSTEM_ERROR: its inputs are "
        "larger than that, or the node has no room.",
        "if it may pass",
        "Ask for more `disk_gb`; make room on the node, or declare the Ray resource `disk_gb` on "
        "all nodes.",
    ),
    "image_pull": Failure(
        "An image isn't on the node and can't be pulled.",
        "if it may pass",
        "The system log has the registry's own words. Look at the image's name and tag, and at "
        "`podman login` on the nodes.",
    ),
    "input_failed": Failure(
        "An input, or an executor's `stdin`, isn't there or can't be read.",
        "if it may pass",
        "Look at its URL, and at the service's credentials for it.",
    ),
    "missing_output": Failure(
        "All executors succeeded, and an output isn't there.",
        "no",
        "Look at its path and what the command writes; `missing_outputs: warn` makes it a line of "
        "the log.",
    ),
    "output_failed": Failure(
        "An output can't be stored.",
        "if it may pass",
        "Look at its URL, and at the service's credentials for it.",
    ),
    "forbidden_url": Failure(
        "A URL that this service doesn't touch: its scheme, host or directory isn't allowed.",
        "no",
        "Use another, or have the settings `schemes`, `local_root` and `storage` allow it.",
    ),
    "invalid_mounts": Failure(
        "The paths of inputs, outputs, volumes and streams can't be mounted together.",
        "no",
        "The system log says which, and why; choose other paths.",
    ),
    "infeasible": Failure(
        "No node of the cluster is as large as what the task asks for, nor has one come within "
        "`infeasible_grace`.",
        "no",
        "Ask for less; the system log names the largest node.",
    ),
    "container_refused": Failure(
        "Podman refused to create or start a container.",
        "no",
        "The system log has its own words.",
    ),
    "container_lost": Failure(
        "Somebody else removed a container, or killed it before its program began, or killed "
        "what watches over it (conmon).",
        "yes",
        "Look for what cleans up on that node.",
    ),
    "podman_unavailable": Failure(
        "The node's Podman can't be started, or went away.",
        "yes",
        "Try `podman info` there, as the user that runs Ray.",
    ),
    "runner_lost": Failure(
        "The process that ran the attempt died.",
        "yes",
        "Look at the node's kernel log: most often it had no memory left.",
    ),
    "node_lost": Failure("The node died, or was cut off.", "yes", "Look at the node."),
    "preempted": Failure(
        "The node was reclaimed (spot).",
        "yes",
        "Nothing: it uses up no retry. `preemptible: false` keeps a task away from such nodes.",
    ),
    "service_stopped": Failure(
        "The service, or the node, was stopped while the attempt ran.",
        "yes",
        "Nothing: the task is run again, and it uses up no retry.",
    ),
    "system_error": Failure(
        "Another fault of the node: it can't read or write a file of the task, say.",
        "yes",
        "The system log says which.",
    ),
    "internal_error": Failure(
        "A mistake in raytes, or a node that fails in a way it doesn't know.",
        "yes",
        "Please report it, with the line of the system log.",
    ),
}
