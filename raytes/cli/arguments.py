"""From the arguments of `raytes run` to a task document: pure functions.

Raises: ValueError, with a sentence that names the argument, for what can't be understood.
"""

import os
from collections.abc import Iterable
from urllib.parse import quote, urlsplit

from raytes.models import TesFileType, TesInput, TesOutput, TesState
from raytes.unicode import is_unicode


def pairs(arguments: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE` arguments as a dictionary."""
    result = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not key:
            raise ValueError(f"{argument!r} is not of the form KEY=VALUE")
        result[key] = value
    return result


def state_of(argument: str) -> TesState:
    """A state by its name, in upper or lower case."""
    try:
        return TesState(argument.upper())
    except ValueError:
        known = ", ".join(TesState)
        raise ValueError(f"{argument!r} is no state; the states are {known}") from None


def input_of(argument: str) -> TesInput:
    """`URL:PATH` as an input. A URL that ends in `/` is a directory."""
    # The path begins at the last ":/" that isn't a part of "://".
    split = len(argument)
    while (split := argument.rfind(":/", 0, split)) >= 0 and argument.startswith("://", split):
        pass
    if split < 1:
        raise ValueError(f"{argument!r} is not of the form URL:PATH with an absolute PATH")
    url, path = argument[:split], argument[split + 1 :]
    return TesInput(url=_absolute(url), path=path, type=_type(url))


def output_of(argument: str) -> TesOutput:
    """`PATH:URL` as an output. A path that ends in `/` is a directory.

    A path with wildcards puts what it matches below URL, by its path without the directories
    before the first wildcard.
    """
    path, colon, url = argument.partition(":")
    if not colon or not url or not path.startswith("/"):
        raise ValueError(f"{argument!r} is not of the form PATH:URL with an absolute PATH")
    output = TesOutput(path=path, url=_absolute(url), type=_type(path))
    literal = path[: min((path.find(char) for char in "*?[" if char in path), default=len(path))]
    if literal != path:
        output.path_prefix = literal[: literal.rindex("/") + 1]
    return output


def _type(location: str) -> TesFileType:
    return TesFileType.DIRECTORY if location.endswith("/") else TesFileType.FILE


def _absolute(url: str) -> str:
    """A relative path is meant from where the person stands, which the server can't know. One
    that isn't UTF-8 fits into a document as a `file://` URL."""
    if urlsplit(url).scheme:
        return url
    path = url if os.path.isabs(url) else os.path.abspath(url) + "/" * url.endswith("/")
    return path if is_unicode(path) else f"file://{quote(os.fsencode(path))}"
