"""What is said of an attempt while it is run: its log, as a series of updates.

At most one update is under way. What the store hasn't confirmed is said again in the next one,
so nothing is missing whatever became of the one before; what the store had got already it knows
by the number it came with.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from raytes.attempt import Tails, Update
from raytes.models import TesExecutorLog, TesFileType, TesOutputFileLog, TesState, TesTaskLog
from raytes.moment import now
from raytes.runner.streams import Tail
from raytes.unicode import as_unicode

_STATE_AFTER: Final = 0.1  # seconds; of a short task it goes with the last update
_TAILS_EVERY: Final = 1.0  # seconds
_FIRST_TAILS_AFTER: Final = 0.02  # seconds; what is written together is sent together
_LINES_AFTER: Final = 1.0  # seconds; in a short task they go with whatever is sent next
_AGAIN_AFTER: Final = 1.0  # seconds; when an update did not arrive
_LINES_KEPT: Final = 1000  # unconfirmed, and as many again that weren't sent yet
_RUNNING: Final = -1  # the exit code of an executor that has none yet

Send = Callable[[Update, Callable[[bool], None]], None]
"""Sends an update and returns at once; calls back, from any thread, with whether it arrived."""


class Report:
    """Collects what happens in an attempt and sends it; may be used from several threads.

    It takes any text, names of files that aren't UTF-8 too, and sends Unicode.

    That an executor has started is sent in a moment. Tails and lines of the system log are sent
    at most once a second, and only if there are new ones. A task that is over sooner sends
    nothing before its last update, which spares the store most of what such a task costs it.
    """

    def __init__(self, task_id: str, attempt: int, send: Send) -> None:
        self._task_id = task_id
        self._attempt = attempt
        self._send = send
        self._lock = threading.Condition()
        self._seq = 0
        self._under_way: Update | None = None
        self._log = TesTaskLog(logs=[], outputs=[], start_time=now(), metadata={})
        self._transfer = ""
        self._state: TesState | None = None  # None: the store knows it
        self._lines: deque[str] = deque()  # not sent yet
        self._lines_dropped = 0
        self._unconfirmed: list[tuple[int, str]] = []
        self._tails: dict[int, tuple[Tail, Tail]] = {}
        self._fresh_tails: set[int] = set()
        self._ended: set[int] = set()
        self._input_types: dict[int, TesFileType] = {}
        self._output_types: dict[int, TesFileType] = {}
        self._due: float | None = None  # when what is new is sent; None: there is nothing
        self._tails_sent = 0.0
        self._closing = False
        self._ticker: threading.Thread | None = None

    def line(self, message: str) -> None:
        """Add a line to the system log."""
        message = " ".join(as_unicode(message).splitlines())
        with self._lock:
            if len(self._lines) == _LINES_KEPT:
                self._lines.popleft()
                self._lines_dropped += 1
            self._lines.append(f"{now()} {message}")
            self._send_within(_LINES_AFTER)

    def metadata(self, **values: str) -> None:
        """Add to the attempt's metadata."""
        with self._lock:
            said = {name: as_unicode(value) for name, value in values.items()}
            self._log.metadata = {**(self._log.metadata or {}), **said}

    def transfer(self, how_far: str) -> None:
        """Tell how far a transfer has come, as the metadata's `transfer`; empty: it is over."""
        with self._lock:
            self._transfer = how_far
            if how_far:
                self._send_within(_LINES_AFTER)

    def input_types(self, types: Mapping[int, TesFileType]) -> None:
        """Tell what inputs turned out to be."""
        with self._lock:
            self._input_types |= types

    def output(self, index: int, kind: TesFileType, files: list[TesOutputFileLog]) -> None:
        """Tell what an output turned out to be, and what was stored of it."""
        named = [
            file.model_copy(update={"path": as_unicode(file.path), "url": as_unicode(file.url)})
            for file in files
        ]
        with self._lock:
            self._output_types[index] = kind
            self._log.outputs = [*self._log.outputs, *named]

    def executor_started(self, stdout: Tail, stderr: Tail) -> int:
        """Tell that the next executor has started; returns its index."""
        with self._lock:
            index = len(self._log.logs)
            started = TesExecutorLog(start_time=now(), exit_code=_RUNNING)
            self._log.logs = [*self._log.logs, started]
            self._tails[index] = (stdout, stderr)
            if index == 0:
                self._state = TesState.RUNNING
            self._send_within(_STATE_AFTER)
            return index

    def written(self, index: int) -> None:
        """Tell that an executor has written something."""
        if index not in self._fresh_tails:
            with self._lock:
                self._fresh_tails.add(index)
                wait = self._tails_sent + _TAILS_EVERY - time.monotonic()
                self._send_within(max(_FIRST_TAILS_AFTER, wait))

    def executor_ended(self, index: int, exit_code: int) -> None:
        """Tell that an executor has ended; it is sent with whatever comes next."""
        with self._lock:
            log = self._log.logs[index].model_copy(
                update={"end_time": now(), "exit_code": exit_code}
            )
            self._log.logs = [*self._log.logs[:index], log, *self._log.logs[index + 1 :]]
            self._ended.add(index)
            self._fresh_tails.add(index)

    def last(self, state: TesState, *, retry: bool = False, of_node: bool = False) -> Update:
        """The attempt's last update. It isn't sent: it is what running the attempt returns."""
        with self._lock:
            self._closing = True
            self._lock.notify()
        if self._ticker is not None:
            self._ticker.join()
        with self._lock:
            self._log.end_time = now()
            self._transfer = ""
            self._fresh_tails = set(self._tails)  # an update before this one may have been lost
            self._state = state
            return replace(self._update(self._new_lines()), retry=retry, of_node=of_node)

    def _send_now(self) -> None:
        if self._fresh_tails:
            self._tails_sent = time.monotonic()
        room = len(self._unconfirmed) < _LINES_KEPT
        self._under_way = update = self._update(self._new_lines() if room else ())
        self._send(update, partial(self._answered, update))

    def _answered(self, update: Update, arrived: bool) -> None:
        with self._lock:
            self._under_way = None
            if arrived:
                self._unconfirmed = [one for one in self._unconfirmed if one[0] > update.seq]
                if self._state is update.state:
                    self._state = None
            else:
                self._fresh_tails |= update.tails.keys()
                self._send_within(_AGAIN_AFTER)
            if self._due is not None:
                self._lock.notify()

    def _update(self, lines: tuple[str, ...]) -> Update:
        self._seq += 1
        self._due = None
        fresh, self._fresh_tails = self._fresh_tails, set()
        unconfirmed = tuple(self._unconfirmed)
        self._unconfirmed += [(self._seq, line) for line in lines]
        return Update(
            task_id=self._task_id,
            attempt=self._attempt,
            seq=self._seq,
            state=self._state,
            log=self._log.model_copy(update={"metadata": self._metadata}),
            tails={index: self._tails_of(index) for index in sorted(fresh)},
            system_logs=lines,
            unconfirmed=unconfirmed,
            input_types=dict(self._input_types),
            output_types=dict(self._output_types),
        )

    @property
    def _metadata(self) -> dict[str, str]:
        transfer = {"transfer": self._transfer} if self._transfer else {}
        return {**(self._log.metadata or {}), **transfer}

    def _new_lines(self) -> tuple[str, ...]:
        if self._lines_dropped:
            missing = f"{self._lines_dropped} lines are missing here: the store did not answer"
            self._lines.appendleft(f"{now()} {missing}")
            self._lines_dropped = 0
        lines = tuple(self._lines)
        self._lines.clear()
        return lines

    def _tails_of(self, index: int) -> Tails:
        stdout, stderr = self._tails[index]
        ended = index in self._ended
        return Tails(stdout.text(ended), stderr.text(ended))

    def _send_within(self, seconds: float) -> None:
        due = time.monotonic() + seconds
        if self._due is None or due < self._due:
            self._due = due
            self._lock.notify()
        if self._ticker is None:
            self._ticker = threading.Thread(target=self._tick, name="report", daemon=True)
            self._ticker.start()

    def _tick(self) -> None:
        with self._lock:
            while not self._closing:
                if self._due is None or self._under_way is not None:
                    self._lock.wait()
                elif (left := self._due - time.monotonic()) > 0:
                    self._lock.wait(left)
                else:
                    self._send_now()
