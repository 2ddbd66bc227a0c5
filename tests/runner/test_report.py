"""What a runner says of an attempt, while the store hears it or not."""

import threading
from collections.abc import Callable
from types import SimpleNamespace

import orjson
import pytest

from raytes.attempt import Update
from raytes.models import TesFileType, TesOutputFileLog, TesState
from raytes.runner import report
from raytes.runner.report import Report
from raytes.runner.streams import Tail


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for wait in ("_STATE_AFTER", "_TAILS_EVERY", "_LINES_AFTER", "_AGAIN_AFTER"):
        monkeypatch.setattr(report, wait, 0.01)


class Line:
    """The way to the store: a test says what arrives."""

    def __init__(self) -> None:
        self.updates: list[Update] = []
        self.answers: list[Callable[[bool], None]] = []
        self.sent = threading.Semaphore(0)

    def send(self, update: Update, answer: Callable[[bool], None]) -> None:
        self.updates.append(update)
        self.answers.append(answer)
        self.sent.release()

    def next(self) -> Update:
        assert self.sent.acquire(timeout=30)
        return self.updates[-1]


def words(lines: tuple[str, ...]) -> list[str]:
    return [line.partition(" ")[2] for line in lines]


@pytest.mark.usefixtures("_impatient")
def test_one_update_is_under_way_and_what_is_new_goes_with_the_next() -> None:
    line = Line()
    one = Report("task", 1, line.send)
    one.line("pulling")
    line.next()
    one.executor_started(Tail(10), Tail(10))
    one.line("running")
    assert len(line.updates) == 1
    line.answers[0](True)
    second = line.next()
    assert (second.seq, second.state) == (2, TesState.RUNNING)
    assert words(second.system_logs) == ["running"]
    assert second.unconfirmed == ()


@pytest.mark.usefixtures("_impatient")
def test_what_did_not_arrive_is_said_again() -> None:
    line = Line()
    one = Report("task", 1, line.send)
    one.line("first")
    one.executor_started(out := Tail(10), Tail(10))
    out.append(b"hello")
    first = line.next()
    line.answers[0](False)
    again = line.next()
    assert again.seq == 2
    assert again.state is TesState.RUNNING
    assert again.unconfirmed == ((1, first.system_logs[0]),)
    assert again.system_logs == ()


@pytest.mark.usefixtures("_impatient")
def test_tails_that_did_not_arrive_are_said_again() -> None:
    line = Line()
    one = Report("task", 1, line.send)
    one.executor_started(out := Tail(10), Tail(10))
    line.next()
    out.append(b"hello")
    one.written(0)
    line.answers[0](True)
    assert line.next().tails[0].stdout == "hello"
    line.answers[1](False)
    assert line.next().tails[0].stdout == "hello"


def test_tails_are_sent_no_more_often_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1000.0  # seconds
    monkeypatch.setattr(report, "time", SimpleNamespace(monotonic=lambda: clock))
    monkeypatch.setattr(report, "_TAILS_EVERY", 0.1)
    monkeypatch.setattr(report, "_FIRST_TAILS_AFTER", 0.0)
    line = Line()
    one = Report("task", 1, line.send)
    one.executor_started(out := Tail(10), Tail(10))
    clock += 1
    line.next()
    began, sent = clock, 0
    line.answers[-1](True)
    while sent < 3:
        out.append(b"x")
        one.written(0)
        if line.sent.acquire(timeout=0.01):
            sent += 1
            line.answers[-1](True)
        clock += 0.01
        # The first is sent at once.
        assert (sent - 1) * 0.1 <= clock - began


@pytest.mark.usefixtures("_impatient")
def test_the_last_update_has_all_that_the_store_is_not_known_to_have() -> None:
    line = Line()
    one = Report("task", 1, line.send)
    one.line("first")
    line.next()
    one.line("second")
    last = one.last(TesState.COMPLETE)
    assert [(seq, text.partition(" ")[2]) for seq, text in last.unconfirmed] == [(1, "first")]
    assert words(last.system_logs) == ["second"]


@pytest.mark.usefixtures("_impatient")
def test_lines_are_kept_up_to_a_bound_and_what_is_missing_is_said() -> None:
    line = Line()
    one = Report("task", 1, line.send)
    one.line("before them")
    line.next()
    for number in range(report._LINES_KEPT + 5):
        one.line(str(number))
    lines = words(one.last(TesState.COMPLETE).system_logs)
    assert lines[0] == "5 lines are missing here: the store did not answer"
    assert lines[1:] == [str(number) for number in range(5, report._LINES_KEPT + 5)]


def test_a_task_that_is_over_at_once_says_all_in_its_last_update(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for wait in ("_STATE_AFTER", "_FIRST_TAILS_AFTER", "_LINES_AFTER"):
        monkeypatch.setattr(report, wait, 600.0)
    line = Line()
    one = Report("task", 1, line.send)
    one.line("first")
    one.executor_started(out := Tail(10), Tail(10))
    out.append(b"hello")
    one.written(0)
    one.executor_ended(0, 0)
    last = one.last(TesState.COMPLETE)
    assert line.updates == []
    assert (last.seq, last.tails[0].stdout, words(last.system_logs)) == (1, "hello", ["first"])


def test_what_is_not_unicode_is_said_in_unicode() -> None:
    one = Report("task", 1, Line().send)
    one.line("caf\udce9 is left out")
    one.metadata(caf="\udce9")
    one.output(0, TesFileType.FILE, [TesOutputFileLog(url="u", path="/\udce9", size_bytes="1")])
    last = one.last(TesState.COMPLETE)
    assert words(last.system_logs) == ["caf\ufffd is left out"]
    assert last.log is not None
    assert orjson.loads(last.log.to_json())["outputs"][0]["path"] == "/\ufffd"
    assert (last.log.metadata or {})["caf"] == "\ufffd"
