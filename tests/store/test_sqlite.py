"""What SQLite is asked for."""

from pathlib import Path

from raytes.store.sqlite import SQLite


def test_what_was_committed_outlives_a_power_cut(tmp_path: Path) -> None:
    database = SQLite(tmp_path / "raytes.db")
    for engine in (database.writing(), database.beside()):
        with engine.connect() as connection:
            # No power can be cut here: this is FULL, with which each commit waits for the disk.
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        engine.dispose()
