"""What a function of a library takes, as options in the settings."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Kind: TypeAlias = "type[bool] | type[float] | Mapping[str, Kind] | None"
"""What a value has to be, a table of further options among them; None: the library sees to it."""

_NAMED = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}

OF_FSSPEC: dict[str, Kind] = {
    "batch_size": None,
    "listings_expiry_time": None,
    "max_paths": None,
    "skip_instance_cache": bool,
    "use_listings_cache": bool,
}
"""What every filesystem of fsspec takes. It makes no difference here: nothing is listed twice,
each section has one filesystem, and the transfers are our own."""

UNCACHED = {"use_listings_cache": False, "skip_instance_cache": True}
"""What each filesystem of ours is made with, whatever its section says."""

_OBJECTS = frozenset({"self", "loop", "asynchronous", "session", "request_session", "sock"})
"""What no file can hold."""


def keywords(*functions: Callable[..., Any]) -> dict[str, Kind]:
    """What can be given to one of `functions` by its name."""
    parameters = (each for one in functions for each in inspect.signature(one).parameters.values())
    named = (each for each in parameters if each.kind in _NAMED and each.name not in _OBJECTS)
    return {each.name: kind_of(each.default) for each in named}


def kind_of(default: object) -> Kind:
    """What a value has to be in place of a default. Numbers may often be words too ("30s")."""
    return bool if isinstance(default, bool) else None
