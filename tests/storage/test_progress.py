"""What is said of transfers that last."""

import pytest

from raytes.storage.progress import Progress, in_words


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A progress whose time is ours, and what it said."""

    def __init__(self, parts: int = 1) -> None:
        self.clock = Clock()
        self.lines: list[str] = []
        self.live: list[str] = []
        self.progress = Progress("the input /in", self, self.clock, parts=parts)

    def line(self, message: str) -> None:
        self.lines.append(message)

    def transfer(self, how_far: str) -> None:
        self.live.append(how_far)


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_quick_transfer_is_not_spoken_of(watched: Watched) -> None:
    transfer = watched.progress.begin()
    watched.clock.now = 4.9
    transfer.moved(10**9)
    transfer.done()
    watched.progress.end()
    assert watched.lines == []


def test_a_line_has_the_amount_the_files_and_the_rate_since_the_last_one(watched: Watched) -> None:
    watched.progress.expect(3, 4 * 10**9)
    first, second = watched.progress.begin(), watched.progress.begin()
    watched.clock.now = 5
    first.moved(10**9)
    first.done()
    watched.clock.now = 10
    second.moved(2 * 10**9)
    second.done()
    watched.progress.end()
    assert watched.lines == [
        "the input /in: 1.0 GB of 4.0 GB (25 %), 0 of 3 files, 200.0 MB/s",
        "the input /in: 3.0 GB of 4.0 GB (75 %), 1 of 3 files, 400.0 MB/s",
        "the input /in: done, 2 files, 3.0 GB in 10 s, 300.0 MB/s",
    ]


def test_what_the_node_has_already_is_no_part_of_what_is_to_be_moved(watched: Watched) -> None:
    watched.progress.expect(2, 4 * 10**9)
    had, moved = watched.progress.begin(), watched.progress.begin()
    had.cached(3 * 10**9)
    had.done()
    watched.clock.now = 5
    moved.moved(500 * 10**6)
    assert watched.lines == ["the input /in: 500.0 MB of 1.0 GB (50 %), 1 of 2 files, 100.0 MB/s"]


def test_a_share_is_told_only_when_all_parts_are_known() -> None:
    watched = Watched(parts=2)
    watched.progress.expect(1, 100)
    watched.clock.now = 5
    watched.progress.begin().moved(50)
    watched.progress.expect(1, 400)
    watched.clock.now = 10
    watched.progress.begin().moved(50)
    assert watched.lines == [
        "the input /in: 50 bytes, 10 bytes/s",
        "the input /in: 100 bytes of 500 bytes (20 %), 0 of 2 files, 10 bytes/s",
    ]


def test_a_single_file_of_unknown_size_is_told_by_its_bytes(watched: Watched) -> None:
    watched.progress.expect(1, None)
    watched.clock.now = 10
    watched.progress.begin().moved(5 * 10**6)
    assert watched.lines == ["the input /in: 5.0 MB, 500.0 kB/s"]


def test_who_watches_is_told_sooner_and_more_often_than_the_log(watched: Watched) -> None:
    watched.progress.expect(1, 10**6)
    transfer = watched.progress.begin()
    for second in range(6):
        watched.clock.now = second
        transfer.moved(100_000)
    transfer.done()
    watched.progress.end()
    assert watched.live == [
        "the input /in: 300.0 kB of 1.0 MB (30 %), 150.0 kB/s",
        "the input /in: 500.0 kB of 1.0 MB (50 %), 100.0 kB/s",
        "",
    ]
    assert len(watched.lines) == 2


def test_a_transfer_of_a_day_does_not_fill_the_log(watched: Watched) -> None:
    transfer = watched.progress.begin()
    for second in range(86_400):
        watched.clock.now = second
        transfer.moved(1)
    assert len(watched.lines) < 350
    assert len(watched.live) < 3500
    assert len([line for line in watched.lines if "1 byte/s" not in line]) == 0


def test_bytes_that_have_to_be_moved_again_are_not_counted_twice(watched: Watched) -> None:
    transfer = watched.progress.begin()
    transfer.moved(700)
    transfer.restart()
    transfer.at(400)
    transfer.at(1000)
    assert watched.progress.moved == 1000


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (2.5e12, "2.5 TB")],
)
def test_bytes_are_counted_in_powers_of_ten(size: float, words: str) -> None:
    assert in_words(size) == words
