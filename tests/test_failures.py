"""The codes of failures, and what is said of each."""

from pathlib import Path
from typing import get_args

import pytest

import raytes
from raytes import failures
from raytes.failures import FAILURES, FailureReason

SOURCES = "".join(
    path.read_text()
    for path in Path(raytes.__file__).parent.rglob("*.py")
    if path != Path(failures.__file__)
)


def test_each_code_is_explained() -> None:
    # That no other stands in the metadata of an attempt is seen to by the type checker.
    assert tuple(FAILURES) == get_args(FailureReason)


@pytest.mark.parametrize("code", FAILURES)
def test_each_code_is_one_that_there_is(code: str) -> None:
    assert f'"{code}"' in SOURCES
