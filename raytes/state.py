"""The state directory: whose it is, and what lies in it besides the database."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raytes.config import Settings
from raytes.errors import RaytesError

# SQLite's locks and shared memory, and flock, can't be relied on there.
_NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs"}
    | {"glusterfs", "fuse.glusterfs", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone"}
)


class StateUnusable(RaytesError):
    """The state directory can't be used: it is in use, not writable, or on the network."""

    failure_reason = "state_unusable"


@contextmanager
def claimed(settings: Settings) -> Iterator[None]:
    """Make the state directory and hold it for this process alone.

    The lock is the kernel's: it ends with the process, so what a killed one left is no
    obstacle.

    Raises:
        StateUnusable: another `raytes serve` holds it, or it is no place for a database.
    """
    directory = settings.state_dir
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for root in settings.local_root:
            root.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateUnusable(
            f"{error.filename} can't be made or written: {error.strerror}"
        ) from None
    try:
        kind = filesystem_of(directory)
        if settings.database is None and kind in _NETWORK_FILESYSTEMS:
            raise StateUnusable(
                f"the state directory {directory} is on a network filesystem ({kind}), where a "
                "database isn't safe: choose a local one with --state-dir, or PostgreSQL with "
                "--database"
            )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateUnusable(
                f"the state directory {directory} is in use by another `raytes serve`: "
                "stop that one, or choose another directory with --state-dir"
            ) from None
        yield
    finally:
        os.close(lock)


def filesystem_of(directory: Path) -> str:
    """The type of the filesystem that `directory` is on, as /proc/mounts names it."""
    found = directory.stat().st_dev
    kind = ""
    with Path("/proc/self/mountinfo").open("rb") as lines:  # mount points' names may be no text
        for line in lines:
            fields, _, source = line.partition(b" - ")
            device = os.makedev(*map(int, fields.split()[2].split(b":")))
            if device == found:
                kind = source.split()[0].decode()
    return kind


def ray_token(settings: Settings) -> Path:
    """The file with the token of the service's own Ray, made at the first start.

    Who can read it owns the cluster, so only the service's user can.
    """
    path = settings.state_dir / "ray-token"
    if not path.exists():
        made = path.with_suffix(".new")  # so that it is never there without its content
        made.unlink(missing_ok=True)
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        made.rename(path)
    return path
