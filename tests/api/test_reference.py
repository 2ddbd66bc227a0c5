"""The written page of the API names what the code has."""

import re
from pathlib import Path

from raytes.api.query import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, MAX_TAG_FILTERS
from raytes.models import BASE_PATH
from raytes.parameters import BACKEND_PARAMETERS

PAGE = (Path(__file__).parent.parent.parent / "docs/reference/api.md").read_text()


def test_it_names_the_backend_parameters_that_there_are() -> None:
    table = PAGE.partition("## Backend parameters")[2]
    keys = [cell for row in re.findall(r"^\| (`.*?) \|", table, re.M) for cell in row.split(", ")]
    assert {key.strip("`") for key in keys} == set(BACKEND_PARAMETERS)


def test_it_names_the_numbers_and_the_base_path() -> None:
    assert f"TES 1.1 at `{BASE_PATH}`" in PAGE
    assert f"1 to {MAX_PAGE_SIZE}; {DEFAULT_PAGE_SIZE} by default" in PAGE
    assert f"At most {MAX_TAG_FILTERS} keys" in PAGE
