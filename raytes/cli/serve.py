"""The command `raytes serve`: from its options to the settings of a service."""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raytes.cli.app import app, fail
from raytes.cli.exits import Exit

if TYPE_CHECKING:
    from pydantic import ValidationError


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="The address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="The port to listen on; 0: any.", show_default="8000")
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The directory of the database, scratch and caches.",
            show_default="./raytes-state",
        ),
    ] = None,
    local_root: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="A directory that file:// URLs and bare paths may read and write; "
            "can be given several times.",
            show_default="<state-dir>/files",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A TOML file with settings; RAYTES_CONFIG names one too."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="The service's name; two services on one cluster need two.",
            show_default="raytes",
        ),
    ] = None,
) -> None:
    """Serve TES on Ray and Podman.

    It joins the Ray cluster at RAY_ADDRESS, or starts a Ray of its own on this machine.

    Each option is also a variable of the environment, RAYTES_ and its name in capitals, and a
    key of the TOML file, beside many more: docs/reference/settings.md lists them all.
    """
    from pydantic import ValidationError

    from raytes.config import load

    try:
        settings = load(
            config,
            host=host,
            port=port,
            state_dir=state_dir,
            local_root=local_root or None,
            name=name,
        )
    except ValidationError as error:
        fail(_sentences(error), Exit.USAGE)
    except FileNotFoundError as error:
        fail(error, Exit.USAGE)
    except tomllib.TOMLDecodeError as error:
        fail(f"{config or 'the file that RAYTES_CONFIG names'} is not TOML: {error}", Exit.USAGE)

    from raytes.serve import main

    raise typer.Exit(main(settings))


def _sentences(error: "ValidationError") -> str:
    """A line for each setting that is wrong: its name, what is wrong, and the value."""
    lines = []
    for mistake in error.errors(include_url=False):
        setting = ".".join(str(part) for part in mistake["loc"])
        given = "" if mistake["type"] == "missing" else f" (given: {mistake['input']!r})"
        lines.append(f"the setting {setting}: {mistake['msg']}{given}")
    return "\nraytes: ".join(lines)
