"""The settings of a service, for the commands that need them, and what is wrong with them."""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raytes.cli.app import fail
from raytes.cli.exits import Exit

if TYPE_CHECKING:
    from pydantic import ValidationError

    from raytes.config import Settings

StateDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The directory of the database, scratch and caches.",
        show_default="./raytes-state",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A TOML file with settings; RAYTES_CONFIG names one too."),
]


def load_or_fail(config: Path | None, **options: Any) -> "Settings":
    """The settings from the command line's options, the environment and a file; a mistake in
    them ends the command.
    """
    from pydantic import ValidationError

    from raytes.config import load

    try:
        return load(config, **options)
    except ValidationError as error:
        fail(_sentences(error), Exit.USAGE)
    except FileNotFoundError as error:
        fail(error, Exit.USAGE)
    except tomllib.TOMLDecodeError as error:
        fail(f"{config or 'the file that RAYTES_CONFIG names'} is not TOML: {error}", Exit.USAGE)


def _sentences(error: "ValidationError") -> str:
    """A line for each setting that is wrong: its name, what is wrong, and the value."""
    lines = []
    for mistake in error.errors(include_url=False):
        setting = ".".join(str(part) for part in mistake["loc"])
        given = "" if mistake["type"] == "missing" else f" (given: {mistake['input']!r})"
        lines.append(f"the setting {setting}: {mistake['msg']}{given}")
    return "\nraytes: ".join(lines)
