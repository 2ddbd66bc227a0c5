"""What the settings say of each store: sections by URL prefix, and the secrets in them.

A secret needn't stand in the settings: `secret = { env = "NAME" }` takes it from the
environment of the process that moves the data, `secret = { file = "/path" }` from a file.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raytes.storage import urls

_SECRET = re.compile(
    r"secret|password|passwd|token|credential|key|sas|auth|cookie|connection_string", re.IGNORECASE
)

_SHORTEST = 6
"""Characters of a secret; hiding shorter ones would only make holes in ordinary words."""


class StoreOptions:
    """The `[storage."…"]` sections, in the words of the fsspec implementations."""

    def __init__(self, sections: Mapping[str, Mapping[str, Any]]) -> None:
        self._sections = sections
        self._secrets: set[str] = set()

    def section(self, url: str) -> str | None:
        """The name of the section for `url`: the longest prefix that fits."""
        return urls.longest_prefix(url, self._sections)

    def values(self, section: str | None) -> dict[str, Any]:
        """The options of `section`; none where there is no section.

        Raises:
            OSError: a file that a value names can't be read.
            LookupError: an environment variable that a value names isn't set.
        """
        if section is None:
            return {}
        options = _resolved(self._sections[section])
        self._secrets.update(_secrets(options))
        return options

    def identity(self, section: str | None) -> str:
        """What tells this section's store from others; safe to keep, for it is a digest."""
        options = {} if section is None else self._sections[section]
        return hashlib.sha256(repr(sorted(options.items())).encode()).hexdigest()

    def hide(self, text: str) -> str:
        """`text` without any of the secrets that `values` has given out."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text


def _resolved(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(name, value) for name, value in options.items()}


def _value(name: str, value: Any) -> Any:
    match value:
        case {"env": str(variable), **rest} if not rest:
            if variable not in os.environ:
                raise LookupError(
                    f"the environment variable {variable}, which the storage option {name!r} "
                    "names, isn't set on this node"
                )
            return os.environ[variable]
        case {"file": str(path), **rest} if not rest:
            return Path(path).read_text().strip()
        case dict():
            return _resolved(value)
        case list():
            return [_value(name, one) for one in value]
        case _:
            return value


def _secrets(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif isinstance(value, list):
            yield from (text for one in value for text in _secrets({name: one}))
        elif isinstance(value, str) and len(value) >= _SHORTEST and _SECRET.search(name):
            yield value
