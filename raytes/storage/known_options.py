"""Whether the sections of the settings say what their stores take.

What is mistyped would else be found by the first task that needs the store, or by nobody.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from raytes.storage import urls
from raytes.storage.connect import known_in_tables, known_options
from raytes.storage.schemes import SCHEMES, is_installed


def mistakes(sections: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each section or option that no store would take; without any values.

    Of a scheme whose package isn't installed nothing is known.
    """
    return [sentence for name in sections for sentence in _of_section(name, sections[name])]


def _of_section(name: str, options: Mapping[str, Any]) -> Iterator[str]:
    shown = f'the section [storage."{urls.shown(name)}"]'
    scheme = name.partition("://")[0].lower()
    if "://" not in name or scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        yield f"{shown} is called after no URL; it has to begin with one of {known}"
    elif is_installed(scheme):
        try:
            known_here = known_options(scheme)
            tables = known_in_tables(scheme)
        except ImportError as error:
            package = SCHEMES[scheme].package
            yield f"{shown} needs the package {package}, which can't be imported ({error})"
            return
        for option in sorted(options.keys() - known_here):
            yield f"{shown} has an option {option!r} {_instead(option, known_here)}"
        for table in sorted(options.keys() & tables):
            inner = options[table]
            if not isinstance(inner, Mapping):
                yield f"{shown} has an option {table!r} that isn't a table"
                continue
            for option in sorted(inner.keys() - tables[table]):
                instead = _instead(option, tables[table])
                yield f"{shown} has in its {table} an option {option!r} {instead}"


def _instead(option: str, known: frozenset[str]) -> str:
    if not known:
        return "and takes none: the setting `local_root` says what files tasks may use"
    near = get_close_matches(option, known, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return f"that its store doesn't know{meant} (it knows {', '.join(sorted(known))})"
