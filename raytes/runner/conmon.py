"""The conmon processes of containers that Podman has forgotten.

Podman that is killed while it sets a container up doesn't know its conmon any more, and
removing the container leaves conmon waiting for ever.
"""

import logging
import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from raytes.errors import ContainerRefused
from raytes.runner.podman import Engine, NotFound

logger = logging.getLogger(__name__)

_ID = re.compile("[0-9a-f]{64}")


def end_forgotten(engine: Engine) -> list[str]:
    """End those on this node; a line for each.

    A container is known to Podman before it has a conmon, so what is being set up is safe.
    """
    ended = []
    for pid, container, name, bundle in _conmons():
        try:
            engine.inspect(container)
        except NotFound:
            if not _is_of(engine, bundle):
                continue
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                ended.append(f"the conmon of container {name}, which is gone")
        except ContainerRefused as refusal:
            logger.warning("Podman doesn't say whether %s is there: %s", container, refusal)
    return ended


def _is_of(engine: Engine, bundle: Path) -> bool:
    """Whether a container is, or was, this Podman's and not another's of the same user."""
    return bundle.resolve().is_relative_to(Path(engine.info()["store"]["graphRoot"]).resolve())


def _conmons() -> Iterator[tuple[int, str, str, Path]]:
    """The pid, container, its name and its directory, of each conmon that a raytes has caused.

    Only this user's: the containers of another user's Podman aren't known to this one.
    """
    ours = re.compile(rf"^Uid:\t{os.geteuid()}\t", re.MULTILINE)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError, ValueError, IndexError):
            arguments = (entry / "cmdline").read_bytes().decode().split("\0")
            if Path(arguments[0]).name != "conmon":
                continue
            if not ours.search((entry / "status").read_text()):
                continue
            container = arguments[arguments.index("-c") + 1]
            name = arguments[arguments.index("-n") + 1]
            bundle = Path(arguments[arguments.index("-b") + 1])
            if name.startswith("raytes-") and _ID.fullmatch(container):
                yield int(entry.name), container, name, bundle
