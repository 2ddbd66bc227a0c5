"""Files on SSH servers.

With asyncssh, the library below fsspec's sshfs, and in its words: that implementation doesn't
verify the server's key unless it is told to, and can't follow a link to a file.
"""

import asyncio
import secrets
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from posixpath import dirname, join
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncssh
from asyncssh import sftp

from raytes.storage import faults
from raytes.storage.aside import Aside, rename_into_place
from raytes.storage.below import opened
from raytes.storage.faults import Fault, Missing, Replaced
from raytes.storage.objects import Object, Outgoing, Staged, check_size
from raytes.storage.parallel import in_parallel
from raytes.storage.progress import Transfer
from raytes.storage.retry import retrying
from raytes.storage.signature import Kind, keywords
from raytes.storage.stall import StallWatch

_SSH_PORT = 22
_TIMEOUT = 60  # seconds without a sign of life
_FILES_AT_ONCE = 8  # over the one connection, each with requests of its own in flight
_TRIES = 3  # of a question and its answer, before a connection counts as dead
_LOST = (
    asyncssh.DisconnectError,
    sftp.SFTPConnectionLost,
    sftp.SFTPNoConnection,  # it was lost before, while nothing was asked of it
    ConnectionError,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Session:
    """A connection, given up when the server's files don't answer.

    SSH's keepalives only tell of a host that is gone: sshd answers them while the process behind
    it, or the disk behind that, hangs.
    """

    client: asyncssh.SFTPClient
    watch: StallWatch


def known_options() -> Mapping[str, Kind]:
    """Those of `asyncssh.connect`, which takes each option of a connection by its name."""
    return keywords(asyncssh.connect, asyncssh.SSHClientConnectionOptions.prepare)


class SftpStore:
    """One server, over one connection."""

    def __init__(self, options: dict[str, Any], authority: str) -> None:
        """`options` are those of `asyncssh.connect`: `username`, `password`, `client_keys`,
        `known_hosts` … The server's key has to be known (`~/.ssh/known_hosts` by default).
        """
        place = urlsplit(f"sftp://{authority}")
        self._options = {
            "host": place.hostname,
            "port": place.port or _SSH_PORT,
            "connect_timeout": _TIMEOUT,
            "keepalive_interval": _TIMEOUT / _TRIES,
            "keepalive_count_max": _TRIES,
        } | options
        self._session: _Session | None = None
        self._connecting = asyncio.Lock()
        self._turns = asyncio.Semaphore(_FILES_AT_ONCE)

    async def find(self, path: str) -> Object | None:
        if path.endswith("/"):
            return None
        try:
            found = await self._do(lambda session: session.client.stat(path))
        except Missing:
            return None
        return _object(path, found) if stat.S_ISREG(found.permissions or 0) else None

    async def find_below(self, path: str) -> list[Object]:
        directory = path.rstrip("/") or "/"

        async def walk(session: _Session) -> list[Object]:
            if not await session.client.isdir(directory):
                return []
            return [found async for found in _walk(session, directory)]

        return await self._do(walk)

    async def get(self, found: Object, destination: Path, transfer: Transfer) -> None:
        async def get(session: _Session) -> None:
            transfer.restart()
            await session.client.get(
                found.path,
                destination,
                follow_symlinks=True,  # else a link would become a link on the node
                progress_handler=_hook(session, transfer),
            )
            now = _object(found.path, await session.client.stat(found.path))
            # A listing needn't tell the times.
            was_told = found.version is not None and now.version is not None
            if now.size != found.size or (was_told and now.version != found.version):
                raise Replaced
            check_size(found, destination)

        await self._do(get)

    async def stage(self, file: Outgoing) -> Staged:
        if file.path.endswith("/"):
            raise Fault("it names a directory, and this is a file")
        temporary = join(file.aside, secrets.token_hex(8))

        async def put(session: _Session) -> Object:
            file.transfer.restart()
            try:
                with opened(file.source) as source:
                    await session.client.put(
                        f"/proc/self/fd/{source.fileno()}",
                        temporary,
                        follow_symlinks=True,  # as which the kernel shows it there
                        progress_handler=_hook(session, file.transfer),
                    )
                return _object(temporary, await session.client.stat(temporary))
            except BaseException:
                with suppress(Exception):
                    await session.client.remove(temporary)
                raise

        staged = await self._do(lambda session: _with_directory(session, file.aside, put))
        return Aside(self, staged, file.path)

    async def place(self, staged: Object, path: str) -> None:
        """As `aside.Server.place`."""

        async def rename(session: _Session) -> None:
            await _rename(session.client, staged.path, path)

        async def place(session: _Session) -> None:
            await _with_directory(session, dirname(path), rename)

        await rename_into_place(staged, self._do, place, lambda: self.find(path))

    async def remove(self, path: str) -> None:
        """Removes a file."""
        await self._do(lambda session: session.client.remove(path))

    async def revoke(self, path: str, token: str) -> None:
        async def remove(session: _Session) -> None:
            for directory in (path.rstrip("/"), dirname(path)):
                with suppress(sftp.SFTPNoSuchFile, sftp.SFTPNoSuchPath):
                    if await session.client.isdir(join(directory, token)):
                        await _remove_directory(session, join(directory, token))

        await self._do(remove)

    async def tidy(self, aside: str) -> None:
        with suppress(Fault):
            await self._do(lambda session: session.client.rmdir(aside))

    async def versions_below(self, path: str, most: int) -> Mapping[str, str]:
        return {}

    async def mark(self, path: str) -> None:
        await self._do(lambda session: session.client.makedirs(path, exist_ok=True))

    async def _do(self, work: Callable[[_Session], Awaitable[T]]) -> T:
        async def attempt() -> T:
            async with self._turns:
                session = await self._connected()
                try:
                    with session.watch.waiting():
                        return await work(session)
                except _LOST as error:
                    if self._session is session:
                        self._session = None
                    if session.watch.stalled:
                        raise TimeoutError from error
                    raise

        return await retrying(attempt, _fault_of)

    async def _connected(self) -> _Session:
        async with self._connecting:
            if self._session is None:
                connection = await asyncssh.connect(**self._options)
                try:
                    async with asyncio.timeout(_TIMEOUT):
                        client = await connection.start_sftp_client()
                except BaseException:
                    connection.abort()
                    raise
                self._session = _Session(client, StallWatch(_TIMEOUT, connection.abort))
            return self._session


def _hook(session: _Session, transfer: Transfer) -> Callable[[bytes, bytes, int, int], None]:
    def tell(source: bytes, target: bytes, position: int, size: int) -> None:
        session.watch.sign()
        transfer.at(position)

    return tell


async def _with_directory(
    session: _Session, directory: str, work: Callable[[_Session], Awaitable[T]]
) -> T:
    """Does `work`, and if something isn't there, once more with the directory made."""
    try:
        return await work(session)
    except (sftp.SFTPNoSuchFile, sftp.SFTPNoSuchPath):
        await session.client.makedirs(directory, exist_ok=True)
        return await work(session)


async def _entries(session: _Session, directory: str) -> AsyncIterator[asyncssh.SFTPName]:
    """What is in a directory."""
    async for entry in session.client.scandir(directory):
        session.watch.sign()
        if entry.filename not in {".", ".."}:
            yield entry


async def _walk(session: _Session, directory: str) -> AsyncIterator[Object]:
    """What lies below a directory, each directory as a marker."""
    yield Object(f"{directory.rstrip('/')}/", 0, None)
    async for entry in _entries(session, directory):
        path = join(directory, str(entry.filename))
        mode = entry.attrs.permissions or 0
        attributes = entry.attrs
        if stat.S_ISLNK(mode):
            with suppress(sftp.SFTPNoSuchFile):
                attributes = await session.client.stat(path)
            if stat.S_ISDIR(attributes.permissions or 0):
                continue  # it may lead to a directory that it lies in
        if stat.S_ISDIR(mode):
            async for below in _walk(session, path):
                yield below
        elif stat.S_ISREG(attributes.permissions or 0):
            yield _object(path, attributes)


async def _remove_directory(session: _Session, directory: str) -> None:
    """Removes a directory of files."""
    paths = [join(directory, str(entry.filename)) async for entry in _entries(session, directory)]

    async def remove(path: str) -> None:
        with suppress(sftp.SFTPNoSuchFile):  # its owner may have removed or renamed it
            await session.client.remove(path)
        session.watch.sign()

    await in_parallel(paths, remove, limit=_FILES_AT_ONCE)
    await session.client.rmdir(directory)


def _object(path: str, attributes: asyncssh.SFTPAttrs) -> Object:
    return Object(path, attributes.size or 0, str(attributes.mtime or "") or None)


async def _rename(client: asyncssh.SFTPClient, temporary: str, path: str) -> None:
    try:
        await client.posix_rename(temporary, path)
    except sftp.SFTPOpUnsupported:
        await client.stat(temporary)  # or what it would have replaced were lost for nothing
        with suppress(sftp.SFTPNoSuchFile):
            await client.remove(path)
        await client.rename(temporary, path)


def _fault_of(error: Exception) -> Fault:
    match error:
        case sftp.SFTPNoSuchFile() | sftp.SFTPNoSuchPath():
            return Missing()
        case sftp.SFTPPermissionDenied() | asyncssh.PermissionDenied():
            return Fault(f"access is denied ({error.reason})")
        case asyncssh.HostKeyNotVerifiable():
            return Fault(
                f"the server's key can't be verified ({error.reason}); have it in the file that "
                "`known_hosts` names in the settings' section, or in ~/.ssh/known_hosts"
            )
        case sftp.SFTPConnectionLost() | sftp.SFTPNoConnection() | asyncssh.DisconnectError():
            return Fault(f"the connection failed ({error.reason})", passing=True)
        case sftp.SFTPError():
            return Fault(f"the server answered: {error.reason}")
        case _:
            return faults.fault_of(error)
