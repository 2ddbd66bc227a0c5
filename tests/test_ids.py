import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from raytes import ids


def test_an_id_needs_no_quoting_in_a_url() -> None:
    assert re.fullmatch("[0-9a-z]{26}", ids.mint())


def test_ids_sort_in_the_order_they_were_minted() -> None:
    minted = [ids.mint() for _ in range(10_000)]
    assert minted == sorted(set(minted))


def test_threads_never_mint_the_same_id() -> None:
    with ThreadPoolExecutor(8) as pool:
        minted = list(pool.map(lambda _: ids.mint(), range(10_000)))
    assert len(set(minted)) == len(minted)


def test_an_id_minted_later_by_another_process_is_greater(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids.mint()
    monkeypatch.setattr(ids, "_last", 0)
    later = time.time_ns() + 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    assert ids.mint() > before


def test_ids_go_on_growing_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids.mint()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert ids.mint() > before


def test_the_time_is_at_the_beginning_of_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_last", 0)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert ids.mint().startswith("0" * 9)
