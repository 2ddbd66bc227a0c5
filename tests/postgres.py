"""A PostgreSQL server of the tests' own, from Debian's package, on a socket in a directory."""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from tests.child_processes import children

_OWNER = "postgres"  # the server refuses to run as root
_numbers = itertools.count()


class Server:
    """A server that can be killed and started again on the same data."""

    def __init__(self) -> None:
        self._programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
        if self._programs is None:
            pytest.skip("PostgreSQL isn't installed (Debian's package postgresql)")
        self.directory = Path(tempfile.mkdtemp(prefix="raytes-pg-"))
        if os.geteuid() == 0:
            os.chown(self.directory, pwd.getpwnam(_OWNER).pw_uid, -1)
        self._run("initdb", "--username=postgres", "--encoding=UTF8", "--no-sync", self._data)
        self.start()

    @property
    def _data(self) -> str:
        return str(self.directory / "data")

    def start(self) -> None:
        options = f"-k {self.directory} -c listen_addresses='' -c max_connections=200"
        log = str(self.directory / "log")
        self._run("pg_ctl", "start", "-w", "-s", "-D", self._data, "-l", log, "-o", options)

    def kill(self) -> None:
        """As a power cut would end it."""
        first = (self.directory / "data" / "postmaster.pid").read_text().split()[0]
        processes = [int(first), *children(int(first))]
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        while any(Path(f"/proc/{process}").exists() for process in processes):
            time.sleep(0.01)

    def fresh(self) -> str:
        """The URL of an empty schema in its database."""
        schema = f"s{next(_numbers)}"
        with psycopg.connect(self._url(), autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {schema}")  # type: ignore[arg-type]
        return f"{self._url()}&options=-csearch_path%3D{schema}"

    def close(self) -> None:
        self._run("pg_ctl", "stop", "-s", "-m", "immediate", "-D", self._data)
        shutil.rmtree(self.directory)

    def _url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.directory}"

    def _run(self, program: str, *arguments: str) -> None:
        as_owner = ["setpriv", f"--reuid={_OWNER}", f"--regid={_OWNER}", "--clear-groups"]
        subprocess.run(
            [*(as_owner if os.geteuid() == 0 else ()), f"{self._programs}/{program}", *arguments],
            check=True,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
