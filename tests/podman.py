"""Podman as a person runs it, beside the service that is tested."""

import subprocess


def podman(*arguments: str) -> str:
    """What a command of Podman's says.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    return subprocess.run(["podman", *arguments], check=True, text=True, capture_output=True).stdout
