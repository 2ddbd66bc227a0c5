"""The wildcards of POSIX.1-2017 (XCU 2.13), as the paths of outputs use them.

`*`, `?` and `[…]` never match a slash, nor a dot at the beginning of a name; a backslash
takes the meaning from the character that follows.
"""

import re
from functools import lru_cache
from typing import Final

_BRACKET: Final = re.compile(
    r"\[(?P<not>[!^]?)(?P<set>\]?(?:\[:\w+:\]|\[\..\.\]|\[=.=\]|\\.|[^\]\\])*)\]", re.DOTALL
)
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
    position = 0
    while position < len(name):
        if name[position] in "*?" or _BRACKET.match(name, position):
            return True
        position += 2 if name[position] == "\\" else 1
    return False


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    expression, position = "", 0
    while position < len(pattern):
        character = pattern[position]
        bracket = _BRACKET.match(pattern, position)
        if bracket:
            expression += _set(bracket)
            position = bracket.end()
            continue
        if character == "\\" and position + 1 < len(pattern):
            position += 1
            character = re.escape(pattern[position])
        else:
            character = {"*": ".*", "?": "."}.get(character) or re.escape(character)
        expression += character
        position += 1
    return re.compile(expression, re.DOTALL)


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
        expression = f"[{'^' if bracket['not'] else ''}{inside}]" if inside else r"(?!)"
        re.compile(expression)
    except re.error:  # a range from high to low matches nothing
        return r"(?!)"
    return expression
