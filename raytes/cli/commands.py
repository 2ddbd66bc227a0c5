"""The commands that talk to a TES server.

httpx, pydantic and rich take their time to be imported: each command imports what it needs
when it runs, so that `raytes --help` is there at once.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from raytes.cli import exits
from raytes.cli.app import app, fail
from raytes.cli.duration import seconds
from raytes.cli.exits import Exit

if TYPE_CHECKING:
    from raytes.client import Client, LogText
    from raytes.models import TesTask

Server = Annotated[
    str,
    typer.Option(envvar="RAYTES_SERVER", metavar="URL", help="The TES server's address."),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="The task's id.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID", help="The tasks' ids.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the task has ended.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_LOCAL = "http://127.0.0.1:8000"


class ViewName(StrEnum):
    """The views of a task, as `--view` takes them."""

    MINIMAL = "MINIMAL"
    BASIC = "BASIC"
    FULL = "FULL"


@app.command(context_settings={"allow_interspersed_args": False})
def run(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The container image.")],
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="The program and its arguments.")
    ],
    name: Annotated[str | None, typer.Option(help="The task's name.")] = None,
    cpu: Annotated[int | None, typer.Option(help="CPUs.")] = None,
    ram: Annotated[float | None, typer.Option(help="Memory in GB (10^9 bytes).")] = None,
    disk: Annotated[float | None, typer.Option(help="Disk space in GB (10^9 bytes).")] = None,
    input: Annotated[
        list[str],
        typer.Option(metavar="URL:PATH", help="An input; a URL that ends in / is a directory."),
    ] = [],  # noqa: B006
    output: Annotated[
        list[str],
        typer.Option(metavar="PATH:URL", help="An output; a path that ends in / is a directory."),
    ] = [],  # noqa: B006
    env: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", help="An environment variable.")
    ] = [],  # noqa: B006
    tag: Annotated[list[str], typer.Option(metavar="KEY=VALUE", help="A tag.")] = [],  # noqa: B006
    volume: Annotated[
        list[str], typer.Option(metavar="PATH", help="A directory that starts empty.")
    ] = [],  # noqa: B006
    stdin: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The file in the container to read stdin from."),
    ] = None,
    workdir: Annotated[
        str | None, typer.Option(metavar="PATH", help="The directory to run the command in.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach/--wait", help="Print the id and don't wait for the end.")
    ] = False,
    server: Server = _LOCAL,
) -> None:
    """Run a command as a task and exit with its exit code.

    What it writes is shown as it comes. Ctrl-C cancels the task. Each of --input, --output,
    --env, --tag and --volume can be given several times.
    """
    from raytes.cli import arguments
    from raytes.models import TesExecutor, TesResources, TesTask

    resources = TesResources(cpu_cores=cpu, ram_gb=ram, disk_gb=disk)
    try:
        task = TesTask(
            name=name,
            inputs=[arguments.input_of(each) for each in input] or None,
            outputs=[arguments.output_of(each) for each in output] or None,
            resources=resources if resources.to_dict() else None,
            executors=[
                TesExecutor(
                    image=image,
                    command=command,
                    env=arguments.pairs(env) or None,
                    stdin=stdin,
                    workdir=workdir,
                )
            ],
            volumes=volume or None,
            tags=arguments.pairs(tag) or None,
        )
    except ValueError as error:
        fail(error, Exit.USAGE)
    with _connect(server) as tes:
        id = tes.create(task)
        if detach:
            print(id)
            return
        print(f"task {id}", file=sys.stderr)
        try:
            _follow(tes, id)
        except KeyboardInterrupt:
            tes.cancel(id)
            raise
        ended = tes.get(id)
    _explain(ended)
    raise typer.Exit(exits.of_command(ended))


@app.command()
def submit(
    file: Annotated[
        typer.FileText,
        typer.Argument(metavar="FILE", help="A TES task document in JSON; - is stdin."),
    ],
    wait: Wait = False,
    server: Server = _LOCAL,
) -> None:
    """Submit a task document and print the task's id."""
    try:
        document = json.load(file)
    except ValueError as error:
        fail(f"{file.name} is not JSON: {error}", Exit.USAGE)
    with _connect(server) as tes:
        id = tes.create(document)
        print(id, flush=True)
        if wait:
            _await(tes, [id], timeout=None)


@app.command()
def get(
    id: Id,
    view: Annotated[ViewName, typer.Option(help="How much of the task.")] = ViewName.FULL,
    server: Server = _LOCAL,
) -> None:
    """Print a task as JSON."""
    from raytes.views import View

    with _connect(server) as tes:
        _print_json(tes.get(id, View(view.value)).to_dict())


@app.command(name="list")
def list_tasks(
    state: Annotated[str | None, typer.Option(help="Only tasks in this state.")] = None,
    name_prefix: Annotated[
        str | None, typer.Option(help="Only tasks whose name begins so.")
    ] = None,
    tag: Annotated[
        list[str],
        typer.Option(metavar="KEY=VALUE", help="Only tasks with this tag; KEY= fits any value."),
    ] = [],  # noqa: B006
    limit: Annotated[int, typer.Option(min=1, help="The most tasks to show.")] = 100,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of a table: a task a line.")
    ] = False,
    server: Server = _LOCAL,
) -> None:
    """List tasks, newest first."""
    from raytes.cli import arguments, display
    from raytes.views import View

    try:
        tags = arguments.pairs(tag)
        wanted = arguments.state_of(state) if state else None
    except ValueError as error:
        fail(error, Exit.USAGE)
    with _connect(server) as tes:
        found = tes.list(
            name_prefix=name_prefix,
            state=wanted,
            tags=tags,
            view=View.BASIC,
            page_size=min(limit, 1000),
        )
        tasks = islice(found, limit)
        if not as_json:
            display.print_tasks(tasks)
            return
        for task in tasks:
            print(task.to_json().decode())


@app.command()
def logs(
    id: Id,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the task has ended.")
    ] = False,
    server: Server = _LOCAL,
) -> None:
    """Show what a task's executors wrote.

    Their stdout goes to stdout, their stderr to stderr; a server keeps the end of each only.
    What the system has to say about the task follows on stderr.
    """
    from raytes.client import tails

    with _connect(server) as tes:
        if follow:
            _follow(tes, id)
        task = tes.get(id)
    if not follow:
        _show_streams(tails(task))
    for attempt in task.logs or ():
        for line in attempt.system_logs or ():
            print(line, file=sys.stderr)


@app.command()
def cancel(ids: Ids, server: Server = _LOCAL) -> None:
    """Cancel tasks. One that has ended stays as it is."""
    from raytes.client import RequestRefused

    refused = False
    with _connect(server) as tes:
        for id in ids:
            try:
                tes.cancel(id)
            except RequestRefused as error:  # the others are to be cancelled all the same
                print(f"raytes: {id}: {error}", file=sys.stderr)
                refused = True
    if refused:
        raise typer.Exit(Exit.FAILED)


@app.command()
def wait(
    ids: Ids,
    timeout: Annotated[
        float | None,
        typer.Option(
            parser=seconds, metavar="TIME", help="How long to wait at most: seconds, or 15m, 12h."
        ),
    ] = None,
    server: Server = _LOCAL,
) -> None:
    """Wait until tasks have ended; print each with its state."""
    with _connect(server) as tes:
        _await(tes, ids, timeout)


@app.command()
def info(as_json: Json = False, server: Server = _LOCAL) -> None:
    """Show what the server says of itself."""
    from raytes.cli import display

    with _connect(server) as tes:
        service = tes.service_info()
    if as_json:
        _print_json(service.to_dict())
    else:
        display.print_service(service)


@app.command()
def health(as_json: Json = False, server: Server = _LOCAL) -> None:
    """Show whether a raytes server can take and run tasks, its nodes, and what these can't do."""
    from raytes.cli import display

    with _connect(server) as tes:
        found = tes.health()
    if as_json:
        _print_json(found)
    else:
        display.print_nodes(found["nodes"])
        for node in found["nodes"]:
            display.print_lines(f"{node['name']}: {each}" for each in node["shortcomings"] or ())
            if node["closed"] and node["closed"] not in (node["shortcomings"] or ()):
                display.print_lines([f"{node['name']} gets no tasks: {node['closed']}"])


@app.command()
def drain(
    node: Annotated[
        str, typer.Argument(metavar="NODE", help="The node's name, address or id (raytes health).")
    ],
    timeout: Annotated[
        float | None,
        typer.Option(
            parser=seconds,
            metavar="TIME",
            help="How long the tasks which run there have to end, before they are run again "
            "elsewhere: seconds, or 15m, 12h. Default: the server's drain_timeout.",
        ),
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Begin tasks there again.")] = False,
    server: Server = _LOCAL,
) -> None:
    """Begin no more tasks on a node of a raytes server."""
    with _connect(server) as tes:
        found = tes.undrain_node(node) if off else tes.drain_node(node, timeout)
    what = "gets tasks again" if found["closed"] is None else f"gets no tasks: {found['closed']}"
    print(f"{found['name']} {what}")


@contextmanager
def _connect(server: str) -> Iterator["Client"]:
    """A client whose errors end the command with their exit code."""
    from raytes.client import Client, RequestRefused, ServerUnreachable

    try:
        with Client(server) as client:
            yield client
    except ServerUnreachable as error:
        fail(error, Exit.UNREACHABLE)
    except RequestRefused as error:
        fail(error, Exit.USAGE if error.status == 400 else Exit.FAILED)


def _await(tes: "Client", ids: list[str], timeout: float | None) -> None:
    """Waits with a live line on stderr, prints each id with its state, exits by the states."""
    from raytes.cli import display

    try:
        with display.progress(len(set(ids))) as watch:
            states = tes.wait(
                *ids, timeout=timeout, on_change=watch.on_change, on_transfer=watch.on_transfer
            )
    except TimeoutError as error:
        fail(error, Exit.TIMEOUT)
    for id, state in states.items():
        print(id, state.value)
    raise typer.Exit(exits.of_states(states.values()))


def _follow(tes: "Client", id: str) -> None:
    """Shows what is written as it comes, and on a terminal how far a transfer is that lasts."""
    from raytes.cli.display import StatusLine

    line = StatusLine()
    try:
        _show_streams(tes.follow(id, line.show if line.is_live else None), line.print)
    finally:
        line.show("")


def _print(text: str, file: TextIO) -> None:
    print(text, end="", file=file, flush=True)


def _show_streams(
    texts: Iterable["LogText"], write: Callable[[str, TextIO], None] = _print
) -> None:
    """What was written to stdout goes to stdout, and what was written to stderr to stderr."""
    for text in texts:
        if text.skipped:
            write("raytes: some output was too quick to be seen\n", sys.stderr)
        write(text.text, sys.stdout if text.stream == "stdout" else sys.stderr)


def _explain(task: "TesTask") -> None:
    """Says why a task is not COMPLETE, where its command can't have said so itself."""
    if task.state.value not in ("SYSTEM_ERROR", "PREEMPTED", "CANCELED"):
        return
    print(f"task {task.id} is {task.state.value}", file=sys.stderr)
    for line in (task.logs[-1].system_logs or ()) if task.logs else ():
        print(line, file=sys.stderr)


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))
