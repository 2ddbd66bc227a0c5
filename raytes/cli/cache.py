"""The command `raytes cache`: what this node keeps of remote inputs."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from raytes.cli.app import app
from raytes.cli.settings import Config, StateDir, load_or_fail


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove what no task is using.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, sizes in bytes.")] = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Show or clear the remote inputs that this node keeps for further tasks.

    It looks at this machine's disk and asks no server. It may be used while tasks run.
    """
    from raytes.storage import inventory
    from raytes.storage.progress import in_words

    settings = load_or_fail(config, state_dir=state_dir)
    if clear:
        removed = inventory.clear(settings.cache)
        typer.echo(f"removed {removed.files} files, {in_words(removed.size)}", err=True)
    found = inventory.take(settings.cache)
    if as_json:
        print(json.dumps({"directory": str(settings.cache), **asdict(found)}))
        return
    print(f"{settings.cache}, of {settings.cache_size_gb:g} GB:")
    print(f"{found.files} files, {in_words(found.size)}")
    print(f"{found.files_in_use} of them, {in_words(found.size_in_use)}, in use by tasks")
    print(f"{found.fetching} being fetched")
