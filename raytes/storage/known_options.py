"""Whether the settings name schemes that there are, and their sections say what stores take.

What is mistyped would else be found by the first task that needs the store, or by nobody.
"""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from raytes.storage import urls
from raytes.storage.connect import known_options
from raytes.storage.schemes import SCHEMES, is_installed
from raytes.storage.signature import Kind


def mistakes(sections: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each section, option or value that no store would take; without the values.

    Of a scheme whose package isn't installed nothing is known.
    """
    return [sentence for name in sections for sentence in _of_section(name, sections[name])]


def unknown(schemes: Iterable[str]) -> list[str]:
    """A sentence for each of the schemes to be enabled that nobody here knows."""
    return [
        f"the setting schemes has {scheme!r}, which isn't known{_meant(scheme.lower(), SCHEMES)}"
        for scheme in schemes
        if scheme.lower() not in SCHEMES
    ]


def _of_section(name: str, options: Mapping[str, Any]) -> Iterator[str]:
    shown = f'the section [storage."{urls.shown(name)}"]'
    scheme = name.partition("://")[0].lower()
    if "://" not in name or scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        yield f"{shown} is called after no URL; it has to begin with one of {known}"
    elif is_installed(scheme):
        try:
            known_here = known_options(scheme)
        except ImportError as error:
            package = SCHEMES[scheme].package
            yield f"{shown} needs the package {package}, which can't be imported ({error})"
            return
        for wrong in _wrong(options, known_here):
            yield f"{shown} has {wrong}"


def _wrong(
    options: Mapping[str, Any], known_here: Mapping[str, Kind], place: str = ""
) -> Iterator[str]:
    for option, value in sorted(options.items()):
        named = f"{place}an option {option!r}"
        match known_here.get(option):
            case _ if option not in known_here:
                yield f"{named} {_instead(option, known_here)}"
            case Mapping() as inner:
                if isinstance(value, Mapping):
                    yield from _wrong(value, inner, f"in its {option} ")
                else:
                    yield f"{named} that isn't a table"
            case type() if isinstance(value, Mapping) and value.keys() in ({"env"}, {"file"}):
                yield (
                    f"{named} from the environment or a file, which hold only words; "
                    "true, false and numbers have to stand in the settings"
                )
            case kind if kind is bool and not isinstance(value, bool):
                yield f"{named} that is neither true nor false, which it has to be without quotes"
            case kind if kind is float and (
                isinstance(value, bool) or not isinstance(value, int | float)
            ):
                yield f"{named} that isn't a number"


def _instead(option: str, known: Mapping[str, Kind]) -> str:
    if not known:
        return "and takes none: the setting `local_root` says what files tasks may use"
    return f"that its store doesn't know{_meant(option, known)}"


def _meant(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word, known, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return f"{meant} (known are {', '.join(sorted(known))})"
