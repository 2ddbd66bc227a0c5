"""The backend parameters of a task: which of them this server knows.

TES 1.1, `tesResources.backend_parameters`: keys are case-insensitive; those that are not
supported are neither stored nor returned, and with `backend_parameters_strict` refused.
"""

from collections.abc import Callable, Iterator, Mapping

from raytes.api.invalid import FieldError, below, quoted

Check = Callable[[str], str | None]
"""Says what is wrong with a value, or None."""

Supported = Mapping[str, Check]
"""The supported parameters: their canonical keys, in lower case, and the check of the value."""

_FIELD = "resources.backend_parameters"


def kept(asked: Mapping[str, str], supported: Supported) -> dict[str, str]:
    """The parameters that the server knows, under their canonical keys."""
    return {key.lower(): value for key, value in asked.items() if key.lower() in supported}


def warnings(asked: Mapping[str, str], supported: Supported) -> tuple[str, ...]:
    """A line for the system logs for each parameter that the server doesn't know."""
    return tuple(
        f"the backend parameter {quoted(key)} is not supported by this server and was ignored"
        for key in asked
        if key.lower() not in supported
    )


def mistakes(asked: Mapping[str, str], supported: Supported, strict: bool) -> Iterator[FieldError]:
    """Wrong values, keys given twice and, if `strict`, keys that the server doesn't know."""
    seen: set[str] = set()
    for key, value in asked.items():
        field = below(_FIELD, key)
        canonical = key.lower()
        if canonical not in supported:
            if strict:
                yield FieldError(field, _unsupported(supported))
        elif canonical in seen:
            yield FieldError(field, "is given twice: the case of keys doesn't matter")
        elif wrong := supported[canonical](value):
            yield FieldError(field, wrong)
        seen.add(canonical)


def _unsupported(supported: Supported) -> str:
    known = ", ".join(sorted(supported)) or "none"
    return f"is not a backend parameter that this server supports (it supports: {known})"
