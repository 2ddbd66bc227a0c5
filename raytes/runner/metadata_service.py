"""Keeps containers away from the credentials that a cloud hands out to its machines.

Their metadata services answer over HTTP at a few addresses. Where a container has a network
namespace of its own, routing rules in there refuse TCP to them. Not more: the same addresses
serve DNS on Google Cloud and Azure.
"""

import os
import shutil
import subprocess
from typing import Final

from raytes.storage.hosts import METADATA_ADDRESSES

_OWN_NAMESPACE: Final = ("bridge", "slirp4netns", "pasta")
_TIMEOUT: Final = 10.0  # seconds


def can_be_kept_away() -> bool:
    """Whether this node has what `keep_away` needs."""
    return all(map(shutil.which, ("ip", "nsenter")))


def keep_away(pid: int, network: str) -> str | None:
    """Forbid the metadata service to a container that hasn't been started yet.

    Parameters:
        pid: of the container on this node.
        network: its network mode, as Podman says it.

    Returns why it could not be done, if so. With `host` there is no way to, with `none` no need.
    """
    if not network.startswith(_OWN_NAMESPACE):
        return None
    if not can_be_kept_away():
        return "`ip` or `nsenter` is missing on this node (apt-get install iproute2 util-linux)"
    try:
        if os.path.samefile(f"/proc/{pid}/ns/net", "/proc/self/ns/net"):
            return "its network namespace is the node's own"
        return _forbid(pid)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)


def _forbid(pid: int) -> str | None:
    """Add the rules. IPv6 may be switched off: only what fails for IPv4 counts."""
    failed = None
    for version in (4, 6):
        rules = "".join(
            f"rule add to {address} ipproto tcp prohibit\n"
            for address in METADATA_ADDRESSES
            if address.version == version
        )
        done = subprocess.run(
            [*_enter(pid), "ip", f"-{version}", "-batch", "-"],
            input=rules, text=True, capture_output=True, timeout=_TIMEOUT, check=False,
        )  # fmt: skip
        if done.returncode != 0 and version == 4:
            failed = done.stderr.strip() or f"`ip` ended with exit code {done.returncode}"
    return failed


def _enter(pid: int) -> list[str]:
    command = ["nsenter", "--target", str(pid), "--net"]
    if os.geteuid() == 0:
        return command
    return [*command, "--user", "--preserve-credentials"]
