"""An ordinary user, made by root for what has to be tried as one, and removed afterwards."""

import os
import pwd
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]


@dataclass(frozen=True)
class OrdinaryUser:
    """A user with subordinate ids and an XDG_RUNTIME_DIR, as after a login."""

    name: str
    uid: int
    home: Path

    def write(self, path: str, text: str) -> None:
        """Write a file below the user's home."""
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def run(self, *command: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a command as this user, at the top of the checkout; its output in one.

        Its mounts are its own: the checkout, `.venv` and Python are where they are for root,
        even below a directory that the user may not enter.
        """
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "USER": self.name,
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            # The checkout isn't this user's to write into.
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(self.home / "hypothesis"),
        }
        become = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--init-groups"]
        script = "\n".join([*self._uncovered(), f"exec {shlex.join([*become, *command])}"])
        return subprocess.run(
            ["unshare", "--mount", "--propagation=private", "sh", "-euc", script],
            cwd=CHECKOUT, env=environment, text=True, timeout=timeout, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def processes(self) -> dict[int, str]:
        """The command lines of the processes that are this user's or of a subordinate id."""
        ids = {self.uid, *_subordinate_ids(self.name)}
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(FileNotFoundError, ProcessLookupError):
                line = (process / "cmdline").read_bytes()  # of a zombie it is empty
                if line and process.stat().st_uid in ids:
                    found[int(process.name)] = line.replace(b"\0", b" ").decode().strip()
        return found

    def _uncovered(self) -> Iterator[str]:
        """Shell commands that make what the tests are run from reachable."""
        trees = {CHECKOUT, Path(sys.prefix), Path(sys.base_prefix)}
        hidden = {tree: top for tree in trees if (top := _closed_to_others(tree))}
        stage = self.home / "stage"
        for number, tree in enumerate(hidden):
            yield f"mkdir -p {stage}/{number}"
            yield f"mount --rbind {shlex.quote(str(tree))} {stage}/{number}"
        for top in set(hidden.values()):
            yield f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(top))}"
        for number, tree in enumerate(hidden):
            yield f"mkdir -p {shlex.quote(str(tree))}"
            yield f"mount --rbind {stage}/{number} {shlex.quote(str(tree))}"
        yield f"cd {shlex.quote(str(CHECKOUT))}"


@contextmanager
def ordinary_user() -> Iterator[OrdinaryUser]:
    """A new user while in this block. Only root can make one."""
    name = f"raytes-test-{secrets.token_hex(3)}"
    home = Path(tempfile.mkdtemp(prefix="raytes-user-", dir="/var/tmp"))
    subprocess.run(["useradd", "--home-dir", home, "--user-group", name], check=True)
    try:
        user = OrdinaryUser(name, pwd.getpwnam(name).pw_uid, home)
        (home / "run").mkdir()
        for directory in (home, home / "run"):
            os.chown(directory, user.uid, user.uid)
            directory.chmod(0o700)
        try:
            yield user
        finally:
            for process in user.processes():  # Podman leaves one that holds its namespace
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
    finally:
        subprocess.run(["userdel", "--force", name], check=True, capture_output=True)
        shutil.rmtree(home)


def _closed_to_others(path: Path) -> Path | None:
    """The topmost directory on the way to a path that not everybody may enter."""
    ways = [*reversed(path.parents), path]
    return next((way for way in ways if not way.stat().st_mode & 0o001), None)


def _subordinate_ids(name: str) -> range:
    for line in Path("/etc/subuid").read_text().splitlines():
        owner, first, count = line.split(":")
        if owner == name:
            return range(int(first), int(first) + int(count))
    return range(0)
