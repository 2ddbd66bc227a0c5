"""What the commands show: tables on stdout, progress on stderr."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from raytes.client import ENDED
from raytes.models import TesServiceInfo, TesState, TesTask

_PIPE_WIDTH = 10_000
_LEAST_WIDTH = 80

_MOST_TRANSFERS = 8  # lines of them at a time
_CLEAR_LINE = "\r\x1b[2K"

_STYLES = {
    TesState.COMPLETE: "green",
    TesState.EXECUTOR_ERROR: "red",
    TesState.SYSTEM_ERROR: "bold red",
    TesState.PREEMPTED: "red",
    TesState.CANCELED: "yellow",
    TesState.RUNNING: "cyan",
}


def print_tasks(tasks: Iterable[TesTask]) -> None:
    """A line for each task: id, state, time of creation, name."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("ID", "STATE", "CREATED"):
        table.add_column(column, no_wrap=True)
    table.add_column("NAME", overflow="fold")
    for task in tasks:
        table.add_row(
            task.id, _coloured(task.state), task.creation_time or "", Text(task.name or "")
        )
    _print_table(table)


def print_service(info: TesServiceInfo) -> None:
    """What a server says of itself, a line each."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    for name, value in info.to_dict().items():
        table.add_row(name, Text(_words(value)))
    _print_table(table)


def print_nodes(nodes: Iterable[Mapping[str, Any]]) -> None:
    """A line for each node of a raytes server: what it has, and what is on it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("NODE", "CPUS", "MEMORY", "GPUS", "SCRATCH FREE", "PODMAN", "RUNNERS", "TASKS"):
        table.add_column(column, no_wrap=True)
    for node in nodes:
        known = node["shortcomings"] is not None
        table.add_row(
            Text(node["name"]),
            f"{node['cpus']:g}",
            f"{node['memory_gb']:.1f} GB",
            f"{node['gpus']:g} {node['gpu_type']}".rstrip(),
            "" if node["scratch_free_gb"] is None else f"{node['scratch_free_gb']:.1f} GB",
            (node["podman"] or "none") if known else "",
            str(node["runners"]),
            str(node["tasks"]),
        )
    _print_table(table)


def print_lines(lines: Iterable[str]) -> None:
    """Lines for a person, beside the data: to stderr."""
    for line in lines:
        print(line, file=sys.stderr)


@dataclass(frozen=True, slots=True)
class Watch:
    """What wants to be told while tasks are waited for."""

    on_change: Callable[[str, TesState], None]
    on_transfer: Callable[[str, str], None] | None


@contextmanager
def progress(total: int) -> Iterator[Watch]:
    """Live lines on stderr: one counts the tasks by state, the others tell of transfers that last.
    Off a terminal there is a line for each change of a state.
    """
    console = Console(stderr=True)
    states: dict[str, TesState] = {}
    if not console.is_terminal:
        yield Watch(
            lambda id, state: print(f"{id} {state.value}", file=sys.stderr, flush=True), None
        )
        return
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as lines:
        counts = lines.add_task(f"0 of {total} ended")
        transfers: dict[str, TaskID] = {}

        def on_change(id: str, state: TesState) -> None:
            states[id] = state
            lines.update(counts, description=_count(states, total))

        def on_transfer(id: str, how_far: str) -> None:
            if not how_far:
                if id in transfers:
                    lines.remove_task(transfers.pop(id))
            elif id in transfers:
                lines.update(transfers[id], description=escape(f"{id} {how_far}"))
            elif len(transfers) < _MOST_TRANSFERS:
                transfers[id] = lines.add_task(escape(f"{id} {how_far}"))

        yield Watch(on_change, on_transfer)


class StatusLine:
    """A line at the end of what a terminal shows, in place of which other text can be written."""

    def __init__(self) -> None:
        self.is_live = sys.stderr.isatty()
        self._shown = ""
        self._at_line_start = True

    def show(self, text: str) -> None:
        """Have `text` in the line; empty: no line."""
        if text == self._shown:
            return
        if not self._at_line_start:
            sys.stderr.write("\n")
            self._at_line_start = True
        width = Console(stderr=True).width - 1
        sys.stderr.write(_CLEAR_LINE + text[:width])
        sys.stderr.flush()
        self._shown = text

    def print(self, text: str, file: TextIO) -> None:
        """Write what belongs above the line."""
        if self._shown:
            self.show("")
        print(text, end="", file=file, flush=True)
        if file.isatty():
            self._at_line_start = text.endswith("\n")


def _count(states: dict[str, TesState], total: int) -> str:
    ended = sum(state in ENDED for state in states.values())
    by_state = ", ".join(
        f"{number} {state.value}" for state, number in Counter(states.values()).items()
    )
    return f"{ended} of {total} ended: {by_state}"


def _coloured(state: TesState) -> Text:
    return Text(state.value, style=_STYLES.get(state, ""))


def _words(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(str(part) for part in value.values())
    if isinstance(value, list):
        return "\n".join(str(part) for part in value)
    return str(value)


def _print_table(table: Table) -> None:
    # In a pipe nothing is folded to a terminal that isn't there, and an id is never cut.
    width = max(Console().width, _LEAST_WIDTH) if sys.stdout.isatty() else _PIPE_WIDTH
    Console(width=width).print(table)
