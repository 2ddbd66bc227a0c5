"""The images of a node: pulled by policy, once for all who want them at the same moment."""

import fcntl
import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from raytes.errors import ContainerRefused, ImagePullFailed, PodmanUnavailable, SystemFault
from raytes.runner.control import Control
from raytes.runner.podman import Engine, Image, NotFound

Policy = Literal["missing", "always", "never"]

_ATTEMPTS: Final = 4
_FIRST_DELAY: Final = 1.0  # seconds; doubled for each further attempt
_LOCK_POLL: Final = 0.1  # seconds; flock itself can't be interrupted
# What another attempt won't change, in the words of registries and of containers/image.
_LASTING: Final = re.compile(
    r"manifest unknown|not found|name unknown|denied|unauthorized|authentication required"
    r"|invalid reference|repository name must|did not resolve to an alias|requested access",
    re.IGNORECASE,
)
# What another attempt may well change: so registries refuse whoever comes too often or too soon,
# and some begin it with `denied:` or `unauthorized:`.
_PASSING: Final = re.compile(
    r"toomanyrequests|too many requests|rate limit|rate exceeded|quota exceeded|slow down"
    r"|temporar(y|ily)|try again|unavailable",
    re.IGNORECASE,
)
# An image's name, its tag and URLs, in which such words may be too.
_NAMES: Final = re.compile(r"(manifest \S+ in )?(?<![\w.:@-])[\w.:@-]*/[\w.:/@%?=&+-]*")
# So says a resolver that fails for a moment, and one that was asked for a mistyped name: it is
# asked again for as long as a pull lasts, and not by another attempt at the task.
_UNKNOWN_HOST: Final = "no such host"


def require_image(
    engine: Engine,
    name: str,
    policy: Policy,
    locks: Path,
    control: Control,
    say: Callable[[str], None],
) -> Image:
    """Have an image on the node.

    Parameters:
        locks: a directory for lock files, the same for all runners of the node.
        say: is told what may take its time.

    Raises:
        ImagePullFailed: with the registry's own words; `transient` if the fault may pass.
        Canceled: the attempt was told to end.
    """
    found = None if policy == "always" else _find(engine, name)
    if found is not None:
        return found
    if policy == "never":
        raise ImagePullFailed(
            f"the image {name} is not on this node, and pull_policy is `never`: "
            "build or load it there, or allow pulling"
        )
    if name.startswith("localhost/"):
        # Where Podman puts what was built on a machine: not a registry to be asked again.
        raise ImagePullFailed(
            f"the image {name} is not on this node, and names that begin with `localhost/` are "
            "of images built there: build or load it, or push it to a registry"
        )
    lock = locks / f"pull-{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"
    with _locked_unless_told(lock, control):
        found = None if policy == "always" else _find(engine, name)
        return found or _pull_with_patience(engine, name, control, say)


def is_lasting(words: str) -> bool:
    """Whether that which a pull failed with, in the registry's words, is there to stay."""
    words = _NAMES.sub("", words)
    return bool(_LASTING.search(words)) and not _PASSING.search(words)


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


def _pull_with_patience(
    engine: Engine, name: str, control: Control, say: Callable[[str], None]
) -> Image:
    delay = _FIRST_DELAY
    say(f"pulling the image {name} from {_registry(name)}")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _pull(engine, qualified(name), control)
        except (ContainerRefused, PodmanUnavailable) as error:
            control.check()
            lasting = is_lasting(str(error))
            if lasting or attempt == _ATTEMPTS:
                is_known = _UNKNOWN_HOST not in str(error)
                raise _failure(name, error, transient=is_known and not lasting) from error
            say(f"the pull of {name} failed and is tried again in {delay:g} seconds: {error}")
            control.stop.wait(delay)
            delay *= 2
    raise AssertionError("the last attempt returns or raises")


def _pull(engine: Engine, reference: str, control: Control) -> Image:
    pull = engine.pull(reference)
    with control.killing(pull.abort):
        pull.run()
    return engine.inspect_image(reference)


@contextmanager
def _locked_unless_told(path: Path, control: Control) -> Iterator[None]:
    """Hold a lock on a file; whoever waits for it can still be told to end."""
    with open(path, "a") as file:
        while not control.stop.is_set():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                control.stop.wait(_LOCK_POLL)
        control.check()
        yield


def _registry(name: str) -> str:
    return qualified(name).split("/")[0]


def _failure(name: str, error: SystemFault, *, transient: bool) -> ImagePullFailed:
    failure = ImagePullFailed(f"the image {name} can't be pulled from {_registry(name)}: {error}")
    failure.transient = transient
    return failure
