import re
from pathlib import Path

import pytest

from docs.generate import pages

ROOT = Path(__file__).parent.parent
WRITTEN = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
)


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_the_reference_is_what_the_code_says(path: Path) -> None:
    assert path.read_text() == pages()[path], "run: .venv/bin/python -m docs.generate"


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    missing = []
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        file, _, anchor = target.partition("#")
        place = page.parent / file if file else page
        is_elsewhere = "://" in target
        if not is_elsewhere and (not place.exists() or (anchor and anchor not in anchors(place))):
            missing.append(target)
    assert missing == []
