"""Blocking steps that are done at once."""

import threading

import pytest

from raytes.errors import Canceled, InputFailed
from raytes.runner.concurrently import concurrently


def test_the_items_are_worked_on_at_once() -> None:
    meeting = threading.Barrier(3, timeout=30)
    concurrently(range(3), lambda item, stop: meeting.wait() and None, threading.Event(), limit=3)


def test_no_more_than_the_limit_are_worked_on_at_once() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def work(item: int, stop: threading.Event) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        stop.wait(0.001)
        with lock:
            running -= 1

    concurrently(range(50), work, threading.Event(), limit=4)
    assert most == 4


def test_the_first_failure_stops_the_others_and_is_the_one_that_is_raised() -> None:
    both_run, begun = threading.Barrier(2, timeout=30), []

    def work(item: int, stop: threading.Event) -> None:
        begun.append(item)
        if item < 2:
            both_run.wait()
        if item == 1:
            raise InputFailed("the first")
        while not stop.is_set():
            stop.wait(0.01)
        raise Canceled("stopped")

    with pytest.raises(InputFailed, match="the first"):
        concurrently(range(50), work, threading.Event(), limit=2)
    assert len(begun) <= 3


def test_what_stops_the_attempt_stops_them_all() -> None:
    stop = threading.Event()
    all_run = threading.Barrier(3, stop.set, timeout=30)

    def work(item: int, stop: threading.Event) -> None:
        all_run.wait()
        while not stop.is_set():
            stop.wait(0.01)
        raise Canceled("stopped")

    with pytest.raises(Canceled):
        concurrently(range(3), work, stop, limit=3)


def test_nothing_to_do_is_done() -> None:
    concurrently([], lambda item, stop: None, threading.Event(), limit=2)


def test_work_may_wait_for_what_stops_the_attempt() -> None:
    stop = threading.Event()
    all_run = threading.Barrier(2, stop.set, timeout=30)

    def work(item: int, stop: threading.Event) -> None:
        all_run.wait()
        assert stop.wait(30)

    concurrently(range(2), work, stop, limit=2)


def test_a_wait_for_what_does_not_happen_ends() -> None:
    def work(item: int, stop: threading.Event) -> None:
        assert not stop.wait(0.01)

    concurrently(range(2), work, threading.Event(), limit=2)
