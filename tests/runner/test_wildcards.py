import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytes.runner.wildcards import fixed_directory, has_wildcards, literal, matches, path_matches


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("abc", "a*"),
        ("abc", "*"),
        ("abc", "a?c"),
        ("a]c", "a[]]c"),
        ("a-c", "a[!]x]c"),
        ("a-c", "a[a-]c"),
        ("a-c", "a[-a]c"),
        ("abc", "a[[:lower:]]c"),
        ("a1c", "a[![:alpha:]]c"),
        ("a-c", "a[[.-.]]c"),
        ("a*c", r"a\*c"),
        ("a[c", "a[c"),
        (".a", ".*"),
        (".a", r"\.a"),
        ("a\nb", "a*b"),
        ("x^y", "x[y^]y"),
        ("a[]", "a[]"),
        ("a[!]", "a[!]"),
        ("[a]]", "[[]a]]"),
        ("abcbd", "a*b*d"),
        ("aab", "**a**b"),
        ("a*", r"*\*"),
    ],
)
def test_names_match(name: str, pattern: str) -> None:
    assert matches(name, pattern)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        (".a", "*"),
        (".a", "?a"),
        (".a", "[.]a"),
        ("abc", "ab"),
        ("abc", "a[!b]c"),
        ("abx", r"ab\x41"),
        ("a*c", r"a\?c"),
        ("axc", r"a\*c"),
        ("b", "[c-a]"),
    ],
)
def test_names_do_not_match(name: str, pattern: str) -> None:
    assert not matches(name, pattern)


@given(st.text("ab[]!-*?", max_size=8), st.text("ab[]-!", min_size=1, max_size=6))
def test_matching_agrees_with_the_standard_library(pattern: str, name: str) -> None:
    assert matches(name, pattern) == fnmatch.fnmatchcase(name, pattern)


def test_a_star_never_matches_a_slash() -> None:
    assert path_matches("/a/b", "/*/b")
    assert not path_matches("/a/c/b", "/*/b")
    assert not path_matches("/a/b/c", "/a/*")


def test_a_path_has_wildcards_only_if_they_are_not_escaped() -> None:
    assert has_wildcards("/a/*.txt")
    assert has_wildcards("/a[0-9]/b")
    assert not has_wildcards(r"/a/\*.txt")
    assert not has_wildcards("/a[0/9]/b")


def test_the_fixed_directory_ends_before_the_first_wildcard() -> None:
    assert fixed_directory("/a/b/*.txt") == "/a/b"
    assert fixed_directory("/a/b?/c/d") == "/a"
    assert fixed_directory("/*/c") == "/"
    assert fixed_directory("/a/b/c.txt") == "/a/b"
    assert fixed_directory(r"/a\*/c.txt") == "/a*"


def test_a_literal_keeps_backslashes_that_escape_nothing() -> None:
    assert literal(r"a\*b\n\\") == "a*b\\n\\"


@pytest.mark.parametrize("star", ["*", "*a", "*[ab]", "?*"])
def test_a_pattern_of_many_stars_is_no_harder_than_others(star: str) -> None:
    """Tried in every way there is, it would take longer than there is time."""
    assert not matches("a" * 255, star * 100 + "c")
    assert matches("a" * 254 + "c", star * 100 + "c")


def test_a_pattern_longer_than_any_name_matches_none() -> None:
    assert matches("a" * 255, "a" * 255)
    assert matches("a" * 255, "a" * 255 + "*" * 1000)
    assert not matches("a" * 255, "[a]" * 256)


@pytest.mark.parametrize("text", ["[", "[!", "[a", "[[:alpha:", r"\["])
def test_brackets_that_never_end_are_looked_at_once(text: str) -> None:
    """Looked at once for each that comes before, this would take minutes."""
    assert not has_wildcards(text * 200_000)
