"""aiohttp's options as a file can hold them, which knows only words, numbers and tables."""

import base64
from collections.abc import Mapping
from typing import Any

import aiohttp

from raytes.storage.signature import keywords

OF_SESSION = keywords(aiohttp.ClientSession.__init__) | {"auth": None, "timeout": None}
"""The options of a session."""


def as_objects(options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` of a session or of its requests, as aiohttp takes them.

    In place of its own objects `auth` is a list of user and password, and `timeout` the seconds
    for a whole request, or a table with the fields of its ClientTimeout.

    Raises:
        TypeError: they are neither.
    """
    objects = dict(options)
    if "auth" in objects:
        authorization = {"Authorization": _basic(*objects.pop("auth"))}
        objects["headers"] = authorization | objects.get("headers", {})
    if "timeout" in objects:
        objects["timeout"] = _timeout(objects["timeout"])
    return objects


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _timeout(value: Any) -> aiohttp.ClientTimeout:
    if isinstance(value, Mapping):
        return aiohttp.ClientTimeout(**value)
    return aiohttp.ClientTimeout(total=float(value))
