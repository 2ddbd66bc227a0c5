"""Real FTP and SSH servers over a directory."""

import errno
import getpass
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.filesystems import AbstractedFS
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import ThreadedFTPServer

from tests.child_processes import children

from .servers import free_port, running

SSHD = Path("/usr/sbin/sshd")


@dataclass
class FileServer:
    """A server, and what it shows of the disk."""

    url: str  # of `root`, without a trailing slash
    root: Path
    settings: dict[str, Any]
    hang: Callable[[], None]  # has the one transfer that goes on stop, as on a disk that hangs
    hang_up: Callable[[], None]  # ends all connections


class _Disk:
    """What one of the transfers waits for, if it hangs."""

    def __init__(self) -> None:
        self._hangs = threading.Event()
        self._released = threading.Event()

    def hang(self) -> None:
        self._hangs.set()

    def release(self) -> None:
        self._released.set()

    def touch(self) -> None:
        if self._hangs.is_set():
            self._hangs.clear()
            self._released.wait()


class _File:
    """A file of the FTP server."""

    def __init__(self, file: IO[bytes], disk: _Disk) -> None:
        self._file = file
        self._disk = disk

    def read(self, size: int) -> bytes:
        self._disk.touch()
        return self._file.read(size)

    def write(self, data: bytes) -> int:
        self._disk.touch()
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Files(AbstractedFS):  # type: ignore[misc]
    """The server's own has the whole process change its directory."""

    disk: _Disk

    def open(self, filename: str, mode: str) -> _File:
        return _File(super().open(filename, mode), self.disk)

    def chdir(self, path: str) -> None:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        self.cwd = self.fs2ftp(path)


@contextmanager
def ftp_server(root: Path, *commands_it_lacks: str) -> Iterator[FileServer]:
    """pyftpdlib, with one user."""
    authorizer = DummyAuthorizer()
    authorizer.add_user("lab", "s3cr3t-!", str(root), perm="elradfmwMT")

    connections: list[socket.socket] = []

    def hang_up() -> None:
        while connections:
            with suppress(OSError):  # it has ended before
                connections.pop().shutdown(socket.SHUT_RDWR)

    class Files(_Files):
        disk = _Disk()

    class Handler(FTPHandler):
        abstracted_fs = Files
        use_sendfile = False  # it reads its files itself
        auth_failed_timeout = 0  # seconds that who has a wrong password waits for the answer

        def on_connect(self) -> None:
            connections.append(self.socket)

        proto_cmds = {  # noqa: RUF012
            name: command
            for name, command in FTPHandler.proto_cmds.items()
            if name not in commands_it_lacks
        }

        def log(self, *_: Any, **__: Any) -> None:
            """Nothing: a test's output is for its failures."""

        logline = log_cmd = log_transfer = log

    Handler.authorizer = authorizer
    server = ThreadedFTPServer(("127.0.0.1", 0), Handler)
    server.poll_timeout = 0.05  # seconds until a connection's thread notices that all ends
    thread = threading.Thread(target=server.serve_forever, kwargs={"timeout": 0.05})
    thread.start()
    url = f"ftp://127.0.0.1:{server.address[1]}"
    try:
        section = {"username": "lab", "password": "s3cr3t-!"}
        settings = {"schemes": ("file", "ftp"), "storage": {url: section}}
        yield FileServer(url, root, settings, Files.disk.hang, hang_up)
    finally:
        Files.disk.release()
        server.close_all()
        thread.join()


@contextmanager
def sftp_server(root: Path, directory: Path) -> Iterator[FileServer]:
    """OpenSSH, which lets this user in with a key made for it."""
    for name in ("host_key", "user_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
        subprocess.run(command, check=True)
    (directory / "authorized_keys").write_text((directory / "user_key.pub").read_text())
    port = free_port()
    configuration = directory / "sshd_config"
    configuration.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host_key\n"
        f"AuthorizedKeysFile {directory}/authorized_keys\nPidFile none\nStrictModes no\n"
        "UsePAM no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)  # where it wants to lock itself in
    host_key = (directory / "host_key.pub").read_text()
    (directory / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    server = f"sftp://127.0.0.1:{port}"
    section = {
        "username": getpass.getuser(),
        "client_keys": str(directory / "user_key"),
        "known_hosts": str(directory / "known_hosts"),
    }
    stopped: list[int] = []
    with running([str(SSHD), "-D", "-f", str(configuration)], port) as sshd:

        def hang() -> None:
            stopped.append(_youngest_below(sshd.pid))
            os.kill(stopped[-1], signal.SIGSTOP)

        def hang_up() -> None:
            for connection in children(sshd.pid):
                os.kill(connection, signal.SIGKILL)

        settings = {"schemes": ("file", "sftp"), "storage": {server: section}}
        try:
            yield FileServer(f"{server}{root}", root, settings, hang, hang_up)
        finally:
            for process in stopped:
                os.kill(process, signal.SIGKILL)


def _youngest_below(process: int) -> int:
    """What OpenSSH has started last to serve files: sshd itself has one process for each
    connection, and that one another for what is done over it.
    """
    below = children(process)
    return _youngest_below(below[-1]) if below else process
