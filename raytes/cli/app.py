"""The application that the commands are registered with, and how a command fails."""

import sys
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer

import raytes
from raytes.cli.exits import MEANINGS, Exit

_EPILOG = "\n\n".join(
    ["Exit codes:", *(f"{code.value}: {meaning}." for code, meaning in MEANINGS.items())]
)

app = typer.Typer(
    name="raytes",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def fail(message: object, code: Exit) -> NoReturn:
    """Ends the command with a message on stderr and an exit code."""
    print(f"raytes: {message}", file=sys.stderr)
    raise typer.Exit(code)


def _version(asked: bool) -> None:
    if asked:
        print(raytes.__version__)
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A GA4GH Task Execution Service on Ray and Podman, and a client of any TES server."""
    # What a task wrote may have characters that the terminal's encoding hasn't.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
