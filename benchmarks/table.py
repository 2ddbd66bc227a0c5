"""The table that measures are shown in."""

from rich.console import Console
from rich.table import Table

from benchmarks.result import Result


def print_results(results: list[Result]) -> None:
    """A line for each result; a mark where there is something to reach."""
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
