"""The command `raytes serve`: from its options to the settings of a service."""

from pathlib import Path
from typing import Annotated

import typer

from raytes.cli.app import app, fail
from raytes.cli.exits import Exit
from raytes.cli.settings import Config, Database, StateDir, load_or_fail


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="The address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="The port to listen on; 0: any.", show_default="8000")
    ] = None,
    state_dir: StateDir = None,
    database: Database = None,
    local_root: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="A directory that file:// URLs and bare paths may read and write; "
            "can be given several times.",
            show_default="<state-dir>/files",
        ),
    ] = None,
    config: Config = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="The service's name; a cluster serves one service at a time.",
            show_default="raytes",
        ),
    ] = None,
) -> None:
    """Serve TES on Ray and Podman.

    It joins the Ray cluster at RAY_ADDRESS, or starts a Ray of its own on this machine.

    Each option is also a variable of the environment, RAYTES_ and its name in capitals, and a
    key of the TOML file, beside many more: docs/reference/settings.md lists them all.
    """
    settings = load_or_fail(
        config,
        host=host,
        port=port,
        state_dir=state_dir,
        database=database,
        local_root=local_root or None,
        name=name,
    )

    from raytes.storage.known_options import mistakes, unknown

    if wrong := [*unknown(settings.schemes), *mistakes(settings.storage)]:
        fail("\nraytes: ".join(wrong), Exit.USAGE)

    from raytes.serve import main

    raise typer.Exit(main(settings))
