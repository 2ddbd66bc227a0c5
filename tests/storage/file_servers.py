"""Real FTP and SSH servers over a directory."""

import errno
import getpass
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.filesystems import AbstractedFS
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import ThreadedFTPServer

from .servers import free_port, running

SSHD = Path("/usr/sbin/sshd")


@dataclass
class FileServer:
    """A server, and what it shows of the disk."""

    url: str  # of `root`, without a trailing slash
    root: Path
    settings: dict[str, Any]


class _Files(AbstractedFS):  # type: ignore[misc]
    """The server's own has the whole process change its directory."""

    def chdir(self, path: str) -> None:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        self.cwd = self.fs2ftp(path)


@contextmanager
def ftp_server(root: Path, *commands_it_lacks: str) -> Iterator[FileServer]:
    """pyftpdlib, with one user."""
    authorizer = DummyAuthorizer()
    authorizer.add_user("lab", "s3cr3t-!", str(root), perm="elradfmwMT")

    class Handler(FTPHandler):
        abstracted_fs = _Files
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
    thread = threading.Thread(target=server.serve_forever, kwargs={"timeout": 0.05})
    thread.start()
    url = f"ftp://127.0.0.1:{server.address[1]}"
    try:
        section = {"username": "lab", "password": "s3cr3t-!"}
        yield FileServer(url, root, {"schemes": ("file", "ftp"), "storage": {url: section}})
    finally:
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
    with running([str(SSHD), "-D", "-f", str(configuration)], port):
        settings = {"schemes": ("file", "sftp"), "storage": {server: section}}
        yield FileServer(f"{server}{root}", root, settings)
