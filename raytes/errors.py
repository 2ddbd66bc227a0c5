"""What can go wrong, as a small tree of exceptions.

Each has a `failure_reason`, the short code that stands in the metadata of a failed
attempt (`failures.py` says what each means), and a message that says what, where and what to do.
"""

from raytes.failures import FailureReason


class RaytesError(Exception):
    """The root of all errors that raytes raises on purpose."""

    failure_reason: str = "internal_error"


class SystemFault(RaytesError):
    """An attempt could not go on for a cause of the system, not of the user's command.

    `transient` tells whether another attempt, here or on another node, may succeed, and
    `of_node` whether it is the node that is at fault, so that other tasks would fail there too.
    """

    failure_reason: FailureReason = "system_error"
    transient = True
    of_node = False


class PodmanUnavailable(SystemFault):
    """The node's Podman service can't be reached or started, or answers with faults."""

    failure_reason = "podman_unavailable"
    of_node = True


class ContainerRefused(SystemFault):
    """Podman refused to create or start the container (not: a program that is missing)."""

    failure_reason = "container_refused"
    transient = False


class ContainerLost(SystemFault):
    """Somebody else removed or killed the container, or what watches over it."""

    failure_reason = "container_lost"
    of_node = True


class DiskFull(SystemFault):
    """The node has no room left for the task's files."""

    failure_reason = "disk_full"
    of_node = True


class ImagePullFailed(SystemFault):
    """The image isn't on the node and can't be pulled."""

    failure_reason = "image_pull"
    transient = False


class InputFailed(SystemFault):
    """An input can't be staged in: it isn't there, can't be read, or the transfer failed."""

    failure_reason = "input_failed"
    transient = False


class OutputFailed(SystemFault):
    """An output can't be staged out."""

    failure_reason: FailureReason = "output_failed"
    transient = False


class MissingOutput(OutputFailed):
    """All executors succeeded and a FILE or DIRECTORY output isn't there."""

    failure_reason = "missing_output"


class ForbiddenURL(SystemFault):
    """A URL is outside what the service may touch (scheme, local root or host)."""

    failure_reason = "forbidden_url"
    transient = False


class InvalidMounts(SystemFault):
    """The paths of inputs, outputs and volumes can't be mounted together."""

    failure_reason = "invalid_mounts"
    transient = False


class UnknownNode(RaytesError):
    """There is no node of that name on the cluster, or more than one."""

    failure_reason = "unknown_node"


class Canceled(RaytesError):
    """The user canceled the task; raised inside a runner to unwind the attempt."""

    failure_reason = "canceled"
