"""What a function of a library takes, as options in the settings."""

import inspect
from collections.abc import Callable
from typing import Any

_NAMED = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}

OF_FSSPEC = frozenset(
    {
        "batch_size", "listings_expiry_time", "max_paths", "skip_instance_cache",
        "use_listings_cache",
    }
)  # fmt: skip
"""What every filesystem of fsspec takes. It makes no difference here: nothing is listed twice,
each section has one filesystem, and the transfers are our own."""

UNCACHED = {"use_listings_cache": False, "skip_instance_cache": True}
"""What each filesystem of ours is made with, whatever its section says."""

_OBJECTS = frozenset({"self", "loop", "asynchronous", "session", "request_session", "sock"})
"""What no file can hold."""


def keywords(*functions: Callable[..., Any]) -> frozenset[str]:
    """The names of what can be given to one of `functions` by its name."""
    parameters = (each for one in functions for each in inspect.signature(one).parameters.values())
    return frozenset(each.name for each in parameters if each.kind in _NAMED) - _OBJECTS
