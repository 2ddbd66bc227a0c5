"""The command `raytes prune`: forgets ended tasks."""

import asyncio
from typing import Annotated

import typer

from raytes.cli.app import app, fail
from raytes.cli.duration import seconds
from raytes.cli.exits import Exit
from raytes.cli.settings import Config, Database, StateDir, load_or_fail


@app.command()
def prune(
    older_than: Annotated[
        float | None,
        typer.Option(
            parser=seconds,
            metavar="TIME",
            help="Forget what ended so long ago: seconds, or 12h, 30d, 8w.",
        ),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", min=0, help="Forget all but so many: the last to end."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many it would be.")
    ] = False,
    state_dir: StateDir = None,
    database: Database = None,
    config: Config = None,
) -> None:
    """Forget ended tasks for good, with their logs.

    Tasks that wait or run, and files, are not touched. It works on the database itself, on the
    machine that serves unless that is PostgreSQL, and may be used while the service runs. The
    settings retention_age and retention_count do the same all the time.
    """
    if older_than is None and keep is None:
        fail("say what is to be forgotten, with --older-than or --keep", Exit.USAGE)
    settings = load_or_fail(config, state_dir=state_dir, database=database)

    from raytes.errors import RaytesError
    from raytes.store import retention
    from raytes.store.database import database_of, require_prepared
    from raytes.store.writer import Writer

    kept = retention.Retention(older_than, keep)
    try:
        tasks = database_of(settings)
        require_prepared(tasks)
        writer = Writer(tasks, tasks.beside())
        try:
            if dry_run:
                found = writer.submit(lambda c: retention.outlived(c, kept)).result()
                typer.echo(f"{found} ended tasks would be forgotten")
            else:
                removed = asyncio.run(
                    retention.prune(lambda change: asyncio.wrap_future(writer.submit(change)), kept)
                )
                typer.echo(f"{removed} ended tasks are forgotten")
        finally:
            writer.close()
    except RaytesError as error:
        fail(error, Exit.FAILED)
