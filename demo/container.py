"""The image of the demo, and a Podman that can run it on this machine."""

import os
import subprocess
from pathlib import Path

from demo.pipeline import IMAGE, TOOLS

_HERE = Path(__file__).parent
_BUILD_IMAGE = _HERE.parent / "scripts" / "build-image"
# What Podman needs where it may not set limits or finds an old cgroup hierarchy: CI machines.
_RESTRICTED = _HERE.parent / "tests" / "containers.conf"


class PodmanFailed(Exception):
    """Podman can't run a container here; the message has its own words."""


def build() -> bool:
    """Builds the image if it isn't there yet, and says whether it had to.

    Raises:
        subprocess.CalledProcessError: it can't be built; why is on stderr.
    """
    if subprocess.run(["podman", "image", "exists", IMAGE], capture_output=True).returncode == 0:
        return False
    subprocess.run([_BUILD_IMAGE, IMAGE, *TOOLS], check=True)
    return True


def configure() -> Path | None:
    """Makes sure that Podman runs containers, for this process and those that it starts.

    Returns the configuration that it had to point Podman at, None if its defaults work.

    Raises:
        PodmanFailed: it doesn't work either way.
    """
    complaint = _complaint()
    if complaint is None:
        return None
    if "CONTAINERS_CONF" not in os.environ:
        os.environ["CONTAINERS_CONF"] = str(_RESTRICTED)
        if _complaint() is None:
            return _RESTRICTED
    raise PodmanFailed(f"Podman can't run a container on this machine: {complaint}")


def _complaint() -> str | None:
    trial = subprocess.run(["podman", "run", "--rm", IMAGE, "true"], capture_output=True, text=True)
    return trial.stderr.strip() if trial.returncode else None
