from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.conftest import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "raytes.db")
    yield opened
    opened.close()
