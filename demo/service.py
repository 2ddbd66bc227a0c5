"""`raytes serve` with its embedded defaults, for as long as the demo needs it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raytes.client import Client, ClientError

_START_TIMEOUT = 120.0  # seconds; Ray takes a few on a laptop, and longer on a busy machine
_STOP_TIMEOUT = 60.0


class ServiceFailed(Exception):
    """The service didn't start; the message has the end of its log."""


@contextmanager
def running(directory: Path, root: Path) -> Iterator[Client]:
    """A client of a service that keeps its state in `directory` and may touch files in `root`.

    Raises:
        ServiceFailed: it ended before it answered, or doesn't answer.
    """
    port = _free_port()
    program = Path(sys.executable).with_name("raytes")
    options = [f"--port={port}", f"--state-dir={directory / 'state'}", f"--local-root={root}"]
    log = directory / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "serve", *options],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_plain_environment(),
            # Ctrl-C is for the demo, which then stops the service itself.
            start_new_session=True,
        )
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            _await_answer(client, process, log)
            yield client
    finally:
        _stop(process)


def _plain_environment() -> dict[str, str]:
    """Without what would make of the defaults something else."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RAYTES_") and name != "RAY_ADDRESS"
    }


def _await_answer(client: Client, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        try:
            client.service_info()
            return
        except ClientError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                end = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
                raise ServiceFailed(f"raytes serve doesn't answer. It said:\n{end}") from error
        time.sleep(0.1)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
