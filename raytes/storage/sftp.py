"""Files on SSH servers.

With asyncssh, the library below fsspec's sshfs, and in its words: that implementation doesn't
verify the server's key unless it is told to, and can't follow a link to a file.
"""

import asyncio
import secrets
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from posixpath import dirname, join
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncssh
from asyncssh import sftp

from raytes.storage import faults
from raytes.storage.aside import Aside
from raytes.storage.faults import Fault, Missing
from raytes.storage.objects import Object, Outgoing, Staged, check_size
from raytes.storage.progress import Transfer
from raytes.storage.retry import retrying

_SSH_PORT = 22
_TIMEOUT = 60  # seconds without an answer
_FILES_AT_ONCE = 8  # over the one connection, each with requests of its own in flight
_TRIES = 3  # of a question and its answer, before a connection counts as dead

T = TypeVar("T")


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
        self._client: asyncssh.SFTPClient | None = None
        self._connecting = asyncio.Lock()
        self._turns = asyncio.Semaphore(_FILES_AT_ONCE)

    async def find(self, path: str) -> Object | None:
        if path.endswith("/"):
            return None
        try:
            found = await self._do(lambda client: client.stat(path))
        except Missing:
            return None
        return _object(path, found) if stat.S_ISREG(found.permissions or 0) else None

    async def find_below(self, path: str) -> list[Object]:
        directory = path.rstrip("/") or "/"

        async def walk(client: asyncssh.SFTPClient) -> list[Object]:
            if not await client.isdir(directory):
                return []
            return [found async for found in _walk(client, directory)]

        return await self._do(walk)

    async def get(self, found: Object, destination: Path, transfer: Transfer) -> None:
        async def get(client: asyncssh.SFTPClient) -> None:
            transfer.restart()
            await client.get(
                found.path,
                destination,
                follow_symlinks=True,  # else a link would become a link on the node
                progress_handler=lambda source, target, position, size: transfer.at(position),
            )
            check_size(found, destination)

        await self._do(get)

    async def stage(self, file: Outgoing) -> Staged:
        if file.path.endswith("/"):
            raise Fault("it names a directory, and this is a file")
        temporary = join(file.aside, secrets.token_hex(8))

        async def put(client: asyncssh.SFTPClient) -> None:
            file.transfer.restart()
            try:
                await client.put(
                    file.source,
                    temporary,
                    progress_handler=lambda source, target, position, size: file.transfer.at(
                        position
                    ),
                )
            except BaseException:
                with suppress(Exception):
                    await client.remove(temporary)
                raise

        await self._do(lambda client: _with_directory(client, file.aside, put))
        return Aside(self, temporary, file.path)

    async def place(self, temporary: str, path: str) -> None:
        """Has the file `temporary` appear at `path`, in place of what was there."""

        async def rename(client: asyncssh.SFTPClient) -> None:
            await _rename(client, temporary, path)

        await self._do(lambda client: _with_directory(client, dirname(path), rename))

    async def remove(self, temporary: str) -> None:
        """Removes a file."""
        await self._do(lambda client: client.remove(temporary))

    async def revoke(self, path: str, token: str) -> None:
        async def remove(client: asyncssh.SFTPClient) -> None:
            for directory in (path.rstrip("/"), dirname(path)):
                with suppress(sftp.SFTPNoSuchFile, sftp.SFTPNoSuchPath):
                    if await client.isdir(join(directory, token)):
                        await client.rmtree(join(directory, token))

        await self._do(remove)

    async def tidy(self, aside: str) -> None:
        with suppress(Fault):
            await self._do(lambda client: client.rmdir(aside))

    async def versions_below(self, path: str, most: int) -> Mapping[str, str]:
        return {}

    async def mark(self, path: str) -> None:
        await self._do(lambda client: client.makedirs(path, exist_ok=True))

    async def _do(self, work: Callable[[asyncssh.SFTPClient], Awaitable[T]]) -> T:
        async def attempt() -> T:
            async with self._turns:
                client = await self._connected()
                try:
                    return await work(client)
                except (asyncssh.DisconnectError, sftp.SFTPConnectionLost, ConnectionError):
                    if self._client is client:
                        self._client = None
                    raise

        return await retrying(attempt, _fault_of)

    async def _connected(self) -> asyncssh.SFTPClient:
        async with self._connecting:
            if self._client is None:
                connection = await asyncssh.connect(**self._options)
                self._client = await connection.start_sftp_client()
            return self._client


async def _with_directory(
    client: asyncssh.SFTPClient,
    directory: str,
    work: Callable[[asyncssh.SFTPClient], Awaitable[None]],
) -> None:
    """Does `work`, and if something isn't there, once more with the directory made."""
    try:
        await work(client)
    except (sftp.SFTPNoSuchFile, sftp.SFTPNoSuchPath):
        await client.makedirs(directory, exist_ok=True)
        await work(client)


async def _walk(client: asyncssh.SFTPClient, directory: str) -> AsyncIterator[Object]:
    """What lies below a directory, each directory as a marker."""
    yield Object(f"{directory.rstrip('/')}/", 0, None)
    async for entry in client.scandir(directory):
        name = str(entry.filename)
        if name in {".", ".."}:
            continue
        path = join(directory, name)
        mode = entry.attrs.permissions or 0
        attributes = entry.attrs
        if stat.S_ISLNK(mode):
            with suppress(sftp.SFTPNoSuchFile):
                attributes = await client.stat(path)
            if stat.S_ISDIR(attributes.permissions or 0):
                continue  # it may lead to a directory that it lies in
        if stat.S_ISDIR(mode):
            async for below in _walk(client, path):
                yield below
        elif stat.S_ISREG(attributes.permissions or 0):
            yield _object(path, attributes)


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
        case sftp.SFTPConnectionLost() | asyncssh.ConnectionLost() | asyncssh.DisconnectError():
            return Fault(f"the connection failed ({error.reason})", passing=True)
        case sftp.SFTPError():
            return Fault(f"the server answered: {error.reason}")
        case _:
            return faults.fault_of(error)
