"""`make bench`: all measures in one go, as one table of ratios."""

import argparse
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import lists, requests, tasks
from benchmarks.result import Result
from benchmarks.service import running
from tests import images


def main() -> None:
    """Run the measures that were asked for, and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["tasks", "requests", "lists"], help="one group")
    parser.add_argument("--tasks", type=int, default=200, help="how many tasks are drained")
    parser.add_argument("--rows", type=int, default=1_000_000, help="how many tasks lists have")
    options = parser.parse_args()
    built = images.build()
    images.adapt_podman(built)
    found: list[Result] = []
    with tempfile.TemporaryDirectory() as directory:
        if options.only in (None, "lists"):
            found += lists.measure(Path(directory), many=options.rows)
        if options.only != "lists":
            with running(Path(directory) / "state", RAYTES_NETWORK="none") as service:
                if options.only in (None, "tasks"):
                    found += tasks.measure(service, built.busybox, tasks=options.tasks)
                if options.only in (None, "requests"):
                    service.deploy_constant()
                    waiting = {
                        "executors": [{"image": built.busybox, "command": ["true"]}],
                        "resources": {"cpu_cores": 1000},
                    }
                    found += requests.measure(service, waiting)
    _print(found)


def _print(results: list[Result]) -> None:
    table = Table("measure", "ratio", "must", "ours", "reference")
    marks = {True: "[green]✓[/] ", False: "[red]✗[/] ", None: "  "}
    for result in results:
        sign = "≥" if result.better == "more" else "≤"
        table.add_row(
            marks[result.reached] + result.measure,
            "" if result.ratio is None else f"{result.ratio:.2f}",
            "" if result.must is None else f"{sign} {result.must:.2f}",
            result.ours,
            result.reference,
        )
    Console(width=120).print(table)


main()
