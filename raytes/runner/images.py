"""The images of a node: pulled by policy, once for all who want them at the same moment."""

import hashlib
import re
import threading
from pathlib import Path
from typing import Final, Literal

from raytes.errors import ContainerRefused, ImagePullFailed, SystemFault
from raytes.runner.owner import locked
from raytes.runner.podman import Engine, Image, NotFound

Policy = Literal["missing", "always", "never"]

_ATTEMPTS: Final = 4
_FIRST_DELAY: Final = 1.0  # seconds; doubled for each further attempt
# What another attempt won't change, in the words of registries and of containers/image.
_LASTING: Final = re.compile(
    r"manifest unknown|not found|name unknown|denied|unauthorized|authentication required"
    r"|invalid reference|did not resolve to an alias|no such host|requested access",
    re.IGNORECASE,
)


def require_image(
    engine: Engine, name: str, policy: Policy, locks: Path, stop: threading.Event
) -> Image:
    """Have an image on the node.

    Parameters:
        locks: a directory for lock files, the same for all runners of the node.
        stop: set when nobody wants the image any more.

    Raises:
        ImagePullFailed: with the registry's own words; `transient` if the fault may pass.
    """
    found = None if policy == "always" else _find(engine, name)
    if found is not None:
        return found
    if policy == "never":
        raise ImagePullFailed(
            f"the image {name} is not on this node, and pull_policy is `never`: "
            "build or load it there, or allow pulling"
        )
    lock = locks / f"pull-{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"
    with locked(lock):
        found = None if policy == "always" else _find(engine, name)
        return found or _pull_with_patience(engine, name, stop)


def qualified(name: str) -> str:
    """An image's name with its registry: a short one is Docker Hub's, as with Docker."""
    first, _, rest = name.partition("/")
    if rest and (first == "localhost" or "." in first or ":" in first):
        return name
    return f"docker.io/{name}" if rest else f"docker.io/library/{name}"


def _find(engine: Engine, name: str) -> Image | None:
    try:
        return engine.inspect_image(name)
    except NotFound:
        return None
    except ContainerRefused as error:  # not a name at all
        raise _failure(name, error, transient=False) from error


def _pull_with_patience(engine: Engine, name: str, stop: threading.Event) -> Image:
    delay = _FIRST_DELAY
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _pull(engine, qualified(name))
        except ContainerRefused as error:
            lasting = bool(_LASTING.search(str(error)))
            if lasting or attempt == _ATTEMPTS or stop.wait(delay):
                raise _failure(name, error, transient=not lasting) from error
            delay *= 2
    raise AssertionError("the last attempt returns or raises")


def _pull(engine: Engine, reference: str) -> Image:
    for _ in engine.pull(reference):
        pass
    return engine.inspect_image(reference)


def _failure(name: str, error: SystemFault, *, transient: bool) -> ImagePullFailed:
    registry = qualified(name).split("/")[0]
    failure = ImagePullFailed(f"the image {name} can't be pulled from {registry}: {error}")
    failure.transient = transient
    return failure
