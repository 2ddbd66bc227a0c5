"""The node's Podman API service: the one that was named, else one of our own.

One of our own is preferred to Podman's usual one, which knows the same images and containers,
because it can be asked for a lean conmon.

A service of our own is shared by all runners of the node. Each holds a shared lock on a file for
as long as it lives; a watcher beside the service waits for the exclusive lock, which it gets
exactly when the last runner has gone, in whatever way, and then ends the service.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlparse

from raytes.config import Settings
from raytes.errors import PodmanUnavailable
from raytes.runner.enforcement import Enforcement, enforcement_of
from raytes.runner.lean_conmon import podmans_conmon, write_lean_conmon
from raytes.runner.owner import locked
from raytes.runner.podman import Engine

_START_TIMEOUT: Final = 30.0  # seconds
_POLL: Final = 0.02  # seconds

# $1 socket, $2 the runners' lock file, $3 the service's log, $4 the instance's label, $5 the lean
# conmon, the rest Podman's options. Whoever has the exclusive lock may remove what this node's
# runners have left: none of them lives any more. Unless the file is another one by now: where a
# service was started again, the other watcher has seen to that, and who is there has come later.
# The service of the late watcher is killed, because one that ends by itself removes the name of
# its socket, which may be that of a new one. A service doesn't outlive its watcher: nobody would
# end it.
_WATCHER: Final = r"""
socket=$1 users=$2 log=$3 label=$4 conmon=$5; shift 5
# Who started this may have died before the kernel was asked to tell.
setpriv --pdeathsig KILL sh -c '[ "$PPID" = "$1" ] && shift && exec "$@"' sh "$$" \
    podman system service "$@" --time 0 "unix://$socket" </dev/null >"$log" 2>&1 &
service=$!
trap '' PIPE  # and who reads this may have died too
echo "$service"
exec </dev/null >/dev/null 2>&1
trap - PIPE
serves() { grep --quiet --fixed-strings "unix://$socket" "/proc/$service/cmdline"; }
if flock --exclusive 9 && [ "$users" -ef /proc/self/fd/9 ]; then
    podman ps --all --quiet --filter "label=$label" 9>&- |
        xargs --no-run-if-empty podman rm --force --volumes --time 0 9>&-
    if serves; then kill "$service"; fi
    while serves; do sleep 0.02; done
    rm --recursive --force "${users%/*}" "$conmon"
fi 9<>"$users"
if serves; then kill -KILL "$service"; fi
"""


class PodmanService:
    """The way to this node's Podman; alive until `release` or the process's end."""

    def __init__(self, settings: Settings, instance: str) -> None:
        self._socket = settings.podman_socket
        self._scratch = settings.scratch
        self._instance = instance
        self._own: _OwnService | None = None
        self._enforcement: Enforcement | None = None
        self._lock = threading.Lock()

    def engine(self) -> Engine:
        """An engine that answers; starts the node's own service if there is none.

        Raises:
            PodmanUnavailable: there is no Podman, or it can't be started.
        """
        with self._lock:
            return self._engine()

    def enforcement(self) -> Enforcement:
        """Which limits Podman can enforce here; asked once.

        Raises:
            PodmanUnavailable: as `engine`.
        """
        with self._lock:
            if self._enforcement is None:
                self._enforcement = enforcement_of(self._engine().info())
            return self._enforcement

    def release(self) -> None:
        """Say that this runner needs the service no longer."""
        if self._own is not None:
            self._own.release()
            self._own = None

    def _engine(self) -> Engine:
        if self._own is not None:
            return self._own.engine()
        if (named := self._named_socket()) is not None:
            if (engine := Engine(named)).ping():
                return engine
            if self._socket is not None:
                raise PodmanUnavailable(
                    f"no Podman service answers at {named}; start one with "
                    f"`podman system service --time 0 unix://{named}`, or unset podman_socket"
                )
        try:
            return self._start_own()
        except PodmanUnavailable:
            # As in a container that is given the node's socket and has no Podman.
            if (usual := _usual_socket()) and (engine := Engine(usual)).ping():
                return engine
            raise

    def _start_own(self) -> Engine:
        own = _OwnService(self._instance, self._scratch)
        try:
            engine = own.engine()
        except PodmanUnavailable:
            own.release()
            raise
        self._own = own
        return engine

    def _named_socket(self) -> Path | None:
        named = urlparse(os.environ.get("CONTAINER_HOST", ""))
        return self._socket or (Path(named.path) if named.scheme == "unix" else None)


def _usual_socket() -> Path | None:
    if os.geteuid() == 0:
        return Path("/run/podman/podman.sock")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "podman/podman.sock" if runtime else None


class _OwnService:
    def __init__(self, instance: str, scratch: Path) -> None:
        if not all(map(shutil.which, ("podman", "flock", "setpriv", "setsid"))):
            raise PodmanUnavailable(
                "this node has no Podman; install it (`apt-get install podman`), or point "
                "podman_socket at the socket of one that runs"
            )
        # Before the first look at the socket: a service that is being ended isn't one.
        self._directory, self._users = _join(instance)
        self._label = f"raytes.instance={instance}"
        self._engine = Engine(self._directory / "podman.sock")
        # On many systems nothing in /run can be executed; and a disk may be full where /run is in
        # memory.
        self._conmons = scratch / f"{self._directory.name}-conmon", self._directory / "conmon"

    def engine(self) -> Engine:
        if not self._engine.ping():
            with locked(self._directory / "start.lock"):
                if not self._engine.ping():
                    self._start()
        return self._engine

    def _start(self) -> None:
        # Between its socket, made first, and its first answer a service would be started twice.
        self._engine.address.unlink(missing_ok=True)
        log = self._directory / "service.log"
        conmon = self._lean_conmon()
        options = ["--conmon", conmon] if conmon else []
        users = self._directory / "users.lock"
        arguments = (self._engine.address, users, log, self._label, conmon or "", *options)
        # A child of nobody's: Ray ends the children of a worker that ends.
        watcher = subprocess.run(
            ["setsid", "--fork", "sh", "-c", _WATCHER, "raytes-podman", *map(str, arguments)],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            text=True,
        )
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._engine.ping():
            if not self._runs(watcher.stdout.strip()):
                wrong = "ended while it started"
            elif time.monotonic() > deadline:
                wrong = f"did not answer within {_START_TIMEOUT:.0f} seconds"
            else:
                time.sleep(_POLL)
                continue
            words = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise PodmanUnavailable(
                f"`podman system service` {wrong} on this node: "
                f"{words.strip() or 'it said nothing'}"
            )

    def _lean_conmon(self) -> Path | None:
        if (conmon := podmans_conmon()) is None:
            return None
        return next((place for place in self._conmons if write_lean_conmon(place, conmon)), None)

    def _runs(self, pid: str) -> bool:
        """Whether the process is the service; no pid, and it isn't."""
        process = Path(f"/proc/{pid}")
        with suppress(OSError):
            if line := (process / "cmdline").read_bytes():
                return os.fsencode(self._engine.address) in line
            # It has none once it has ended, and for a moment while it becomes another program.
            state = (process / "stat").read_text().rpartition(") ")[2][:1]
            return state not in ("Z", "X")
        return False

    def release(self) -> None:
        # If it was killed, its watcher may have been too, and only another one would tidy up.
        with suppress(PodmanUnavailable):
            self.engine()
        os.close(self._users)


def _join(instance: str) -> tuple[Path, int]:
    """The runtime directory, and a descriptor that holds the shared lock on its users' file."""
    while True:
        directory = runtime_directory(instance)
        path = directory / "users.lock"
        with suppress(FileNotFoundError):
            users = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(users, fcntl.LOCK_SH)
                # A watcher that had the lock before has removed the directory.
                if os.path.samestat(os.stat(path), os.fstat(users)):
                    return directory, os.dup(users)
            finally:
                os.close(users)


def runtime_directory(instance: str) -> Path:
    """This node's directory for the socket and locks of a service instance, made if needed.

    Short, because the path of a unix socket has at most 108 bytes.

    Raises:
        PodmanUnavailable: somebody else owns the directory.
    """
    name = f"raytes-{hashlib.sha256(instance.encode()).hexdigest()[:12]}"
    uid = os.geteuid()
    own = Path(f"/run/user/{uid}") if uid else Path("/run")
    if not os.access(own, os.W_OK):
        own, name = Path(tempfile.gettempdir()), f"{name}-{uid}"
    directory = own / name
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if status.st_uid != uid or status.st_mode & 0o077 or directory.is_symlink():
        raise PodmanUnavailable(
            f"{directory} belongs to somebody else, or others may enter it; remove it"
        )
    return directory
