"""The wildcards of POSIX.1-2017 (XCU 2.13), as the paths of outputs use them.

`*`, `?` and `[…]` never match a slash, nor a dot at the beginning of a name; a backslash
takes the meaning from the character that follows.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Final

_LONGEST: Final = 255  # bytes; no name on Linux is longer (NAME_MAX)
_BRACKET: Final = re.compile(
    r"\[(?P<not>[!^]?+)(?P<set>\]?+(?:\[:\w+:\]|\[\..\.\]|\[=.=\]|\\.|[^\]\\])*)\]", re.DOTALL
)
_NOTHING: Final = re.compile(r"(?!)")
_ITEM: Final = re.compile(
    r"\[:(?P<class>\w+):\]|\[\.(?P<collating>.)\.\]|\[=(?P<equivalent>.)=\]|\\(?P<escaped>.)"
    r"|(?P<plain>.)",
    re.DOTALL,
)
# In the POSIX locale.
_CLASSES: Final = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\s",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


def has_wildcards(path: str) -> bool:
    """Whether a path selects by pattern: it has a `*`, a `?` or a bracket that isn't escaped."""
    return any(_is_pattern(name) for name in path.split("/"))


def fixed_directory(path: str) -> str:
    """The directory of an absolute path before its first name with a wildcard."""
    names = path.strip("/").split("/")
    fixed = next((i for i, name in enumerate(names) if _is_pattern(name)), len(names) - 1)
    return "/" + "/".join(literal(name) for name in names[:fixed])


def literal(name: str) -> str:
    """A name without wildcards, freed of the backslashes before what would be one."""
    return re.sub(r"\\([*?\[\]\\])", r"\1", name)


def matches(name: str, pattern: str) -> bool:
    """Whether one name of a path matches one name of a pattern."""
    if name.startswith(".") and not pattern.removeprefix("\\").startswith("."):
        return False
    return _compiled(pattern).fullmatch(name) is not None


def path_matches(path: str, pattern: str) -> bool:
    """Whether an absolute path matches an absolute pattern, name by name."""
    names, patterns = path.strip("/").split("/"), pattern.strip("/").split("/")
    return len(names) == len(patterns) and all(map(matches, names, patterns))


def _is_pattern(name: str) -> bool:
    return any(part in ("*", "?") or isinstance(part, re.Match) for part in _parts(name))


def _parts(name: str) -> Iterator[str | re.Match[str]]:
    """What a name of a pattern is made of: `*`, `?`, brackets, and characters, escaped or not."""
    position = 0
    may_have_bracket = True
    while position < len(name):
        if may_have_bracket and name[position] == "[":
            if bracket := _BRACKET.match(name, position):
                yield bracket
                position = bracket.end()
                continue
            may_have_bracket = False  # what would end this one would end all after it
        is_escape = name[position] == "\\" and position + 1 < len(name)
        length = 2 if is_escape else 1
        yield name[position : position + length]
        position += length


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    """The pattern as an expression that is matched in about name times pattern steps.

    What stands between two `*` is taken where it comes first and never tried again further on
    (`(?>…)`): the next `*` makes up for that.
    """
    parts = list(_parts(pattern))
    if sum(part != "*" for part in parts) > _LONGEST:
        return _NOTHING
    stretches = [""]
    for before, part in pairwise(["", *parts]):
        if part != "*":
            stretches[-1] += _expression(part)
        elif before != "*":
            stretches.append("")
    first, *others = stretches
    if others:
        *inner, last = others
        first += "".join(f"(?>.*?{stretch})" for stretch in inner) + f".*{last}"
    return re.compile(first, re.DOTALL)


def _expression(part: str | re.Match[str]) -> str:
    if isinstance(part, re.Match):
        return _set(part)
    return "." if part == "?" else re.escape(part[-1])


def _set(bracket: re.Match[str]) -> str:
    items: list[str] = []
    for item in _ITEM.finditer(bracket["set"]):
        if name := item["class"]:
            items.append(_CLASSES.get(name, ""))
        elif item["plain"] == "-" and item.start() > 0 and item.end() < len(bracket["set"]):
            items.append("-")
        else:
            items.append(
                re.escape(
                    item["collating"] or item["equivalent"] or item["escaped"] or item["plain"]
                )
            )
    inside = "".join(items)
    try:
        expression = f"[{'^' if bracket['not'] else ''}{inside}]" if inside else _NOTHING.pattern
        re.compile(expression)
    except re.error:  # a range from high to low matches nothing
        return _NOTHING.pattern
    return expression
