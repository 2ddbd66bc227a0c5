"""The settings of a service, for the commands that need them, and what is wrong with them."""

import tomllib
from contextlib import suppress
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


def _without_password(url: str | None) -> str | None:
    if url and _has_password(url):
        raise typer.BadParameter(
            "everyone on this machine can read a command line: put a URL with a password into "
            "RAYTES_DATABASE or the configuration file, or the password into ~/.pgpass"
        )
    return url


def _has_password(url: str) -> bool:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    with suppress(ArgumentError, ValueError):  # which the settings don't take
        return "password=" in url or bool(make_url(url).password)
    return False


Database = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Keep tasks in PostgreSQL, postgresql://user@host/database.",
        show_default="a file in the state directory",
        callback=_without_password,
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
    except OSError as error:
        fail(error, Exit.USAGE)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        fail(f"{config or 'the file that RAYTES_CONFIG names'} is not TOML: {error}", Exit.USAGE)


def _sentences(error: "ValidationError") -> str:
    """A line for each setting that is wrong: its name, what is wrong, and the value."""
    lines = []
    for mistake in error.errors(include_url=False):
        setting = ".".join(str(part) for part in mistake["loc"])
        # A database's URL has a password, and so may a store's options have; and what several
        # settings do wrong together was given as all of them.
        secret = mistake["loc"][:1] in ((), ("database",), ("storage",))
        untold = mistake["type"] == "missing" or secret
        given = "" if untold else f" (given: {mistake['input']!r})"
        where = f"the setting {setting}" if setting else "the settings"
        lines.append(f"{where}: {mistake['msg']}{given}")
    return "\nraytes: ".join(lines)
