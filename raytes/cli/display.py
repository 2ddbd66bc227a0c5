"""What the commands show: tables on stdout, progress on stderr."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from raytes.lifecycle import FINAL
from raytes.models import TesServiceInfo, TesState, TesTask

_PIPE_WIDTH = 10_000
_LEAST_WIDTH = 80

_STYLES = {
    TesState.COMPLETE: "green",
    TesState.EXECUTOR_ERROR: "red",
    TesState.SYSTEM_ERROR: "bold red",
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


class OnChange(Protocol):
    """Told of each task's state when it has changed."""

    def __call__(self, id: str, state: TesState) -> None: ...


@contextmanager
def progress(total: int) -> Iterator[OnChange]:
    """A live line on stderr that counts the tasks by state; off a terminal a line a change."""
    console = Console(stderr=True)
    states: dict[str, TesState] = {}
    if not console.is_terminal:
        yield lambda id, state: print(f"{id} {state.value}", file=sys.stderr, flush=True)
        return
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as line:
        counts = line.add_task(f"0 of {total} ended")

        def on_change(id: str, state: TesState) -> None:
            states[id] = state
            line.update(counts, description=_count(states, total))

        yield on_change


def _count(states: dict[str, TesState], total: int) -> str:
    ended = sum(state in FINAL for state in states.values())
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
