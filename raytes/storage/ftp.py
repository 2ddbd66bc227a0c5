"""Files on FTP servers.

The options have the names that fsspec's FTPFileSystem gives them, but the work is done with
Python's own ftplib: that implementation can't be used from several threads, lists a directory
to find one file, and doesn't verify certificates.
"""

import asyncio
import ftplib
import re
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from posixpath import dirname, join
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

from raytes.storage import faults
from raytes.storage.aside import Aside, rename_into_place
from raytes.storage.below import opened
from raytes.storage.faults import Fault, Forbidden, Missing, Replaced
from raytes.storage.hosts import refusal_of_address
from raytes.storage.objects import Object, Outgoing, Staged, check_size
from raytes.storage.progress import Transfer
from raytes.storage.retry import retrying
from raytes.storage.signature import OF_FSSPEC, Kind

_CONNECTIONS = 4
"""To one server at once; many allow each client no more than a handful."""

_TIMEOUT = 60  # seconds without a byte
_PIECE = 2**18  # bytes
_NOT_KNOWN = ("500", "501", "502", "504")  # the server has no such command
_UNKNOWN_SIZE = -1

# Of a listing as Unix has it: what an entry begins with, and lines that are none.
_MODE = re.compile(r"[-bcdlpsD][-rwxsStTlL]{9}")
_NO_ENTRY = re.compile(r"\s*(total\s+\d+)?\s*", re.IGNORECASE)

KNOWN_OPTIONS: Mapping[str, Kind] = {
    **OF_FSSPEC,
    "username": None,
    "password": None,
    "acct": None,
    "timeout": float,
    "encoding": None,
    "tls": bool,
    "block_size": None,
    "tempdir": None,
    "host": None,
    "port": None,
}
"""Those of fsspec's FTPFileSystem; the last four make no difference here: a URL names its host."""

T = TypeVar("T")


class _UnknownListing(Fault):
    """A listing can't be read; if it were taken for empty, files would be missing unnoticed."""

    def __init__(self) -> None:
        super().__init__("the server lists its files in a way that isn't known here")


@dataclass(frozen=True, slots=True)
class _Entry:
    """What a server tells of a file or a directory at once; what it doesn't has to be asked."""

    name: str
    kind: str = ""  # "file", "dir", or another: a link may lead to either, or nowhere
    size: int | None = None  # bytes
    changed: str | None = None
    identity: str = ""

    @classmethod
    def of_facts(cls, line: str) -> "_Entry":
        """What a line of MLST or MLSD says."""
        told, _, name = line.partition(" ")
        parts = [part for part in told.split(";") if part]
        if not name or not parts or not all("=" in part for part in parts):
            raise _UnknownListing
        facts = {key.lower(): fact for key, _, fact in (part.partition("=") for part in parts)}
        size = facts.get("size", "")
        return cls(
            name,
            facts.get("type", "").lower(),
            int(size) if size.isdecimal() else None,
            facts.get("modify"),
            facts.get("unique", ""),
        )


class FtpStore:
    """One server; a path without a file but with something below it is a directory."""

    def __init__(self, options: dict[str, Any], authority: str, *, guarded: bool) -> None:
        """`options` are `username`, `password`, `acct`, `timeout` (seconds), `encoding` and `tls`
        (explicit, with the certificate verified); without them the login is anonymous.
        `guarded`: not to an address of the node itself or of its cloud.
        """
        self._options = options
        self._authority = authority
        self._guarded = guarded
        self._idle: list[_Session] = []
        self._turns = asyncio.Semaphore(_CONNECTIONS)

    async def find(self, path: str) -> Object | None:
        return await self._do(lambda session: session.look(path))

    async def find_below(self, path: str) -> list[Object]:
        return await self._do(lambda session: session.find_below(path.rstrip("/")))

    async def get(self, found: Object, destination: Path, transfer: Transfer) -> None:
        await self._do(lambda session: session.get(found, destination, transfer))

    async def stage(self, file: Outgoing) -> Staged:
        if file.path.endswith("/"):
            raise Fault("it names a directory, and this is a file")
        temporary = join(file.aside, secrets.token_hex(8))

        def put(session: "_Session") -> Object:
            session.make_directories(file.aside)
            return session.put(file.source, temporary, file.transfer)

        return Aside(self, await self._do(put), file.path)

    async def place(self, staged: Object, path: str) -> None:
        """As `aside.Server.place`."""

        def rename(session: "_Session") -> None:
            session.place(staged.path, path)

        async def find() -> Object | None:
            found = await self._do(lambda session: session.find(path))
            if found and found.size == _UNKNOWN_SIZE:
                found = replace(found, size=staged.size)
            return found

        await rename_into_place(staged, self._do, rename, find)

    async def remove(self, path: str) -> None:
        """Removes a file."""
        await self._do(lambda session: session.remove(path))

    async def revoke(self, path: str, token: str) -> None:
        def remove(session: "_Session") -> None:
            for directory in (path.rstrip("/"), dirname(path)):
                session.remove_directory(join(directory, token))

        await self._do(remove)

    async def tidy(self, aside: str) -> None:
        await self._do(lambda session: session.remove_if_empty(aside))

    async def versions_below(self, path: str, most: int) -> Mapping[str, str]:
        return {}

    async def mark(self, path: str) -> None:
        await self._do(lambda session: session.make_directories(path))

    async def _do(self, work: Callable[["_Session"], T]) -> T:
        async def attempt() -> T:
            async with self._turns:
                session = self._idle.pop() if self._idle else _Session()
                try:
                    result = await asyncio.to_thread(self._with, session, work)
                except BaseException as error:
                    session.abort()  # also when cancelled: the thread must not go on
                    if isinstance(error, OSError | EOFError | ftplib.error_temp):
                        self._give_up_idle()
                    raise
                self._idle.append(session)
                return result

        return await retrying(attempt, _fault_of)

    def _give_up_idle(self) -> None:
        """What has ended one connection has often ended those that nobody used meanwhile."""
        while self._idle:
            self._idle.pop().abort()

    def _with(self, session: "_Session", work: Callable[["_Session"], T]) -> T:
        session.open(self._authority, self._options, guarded=self._guarded)
        return work(session)


class _Tls(ftplib.FTP_TLS):
    """Over TLS, with the data in the session of the commands, as many servers want it."""

    sock: ssl.SSLSocket

    def ntransfercmd(
        self, cmd: str, rest: int | str | None = None
    ) -> tuple[socket.socket, int | None]:
        data, size = super(ftplib.FTP_TLS, self).ntransfercmd(cmd, rest)
        protected = self.context.wrap_socket(
            data, server_hostname=self.host, session=self.sock.session
        )
        return protected, size


class _Session:
    """One connection; it may be aborted by another thread."""

    def __init__(self) -> None:
        self._ftp: ftplib.FTP | None = None
        self._data: socket.socket | None = None
        self._aborted = False
        self._aborting = threading.Lock()
        self._has_mlst = True  # as far as it is known

    def open(self, authority: str, options: dict[str, Any], *, guarded: bool) -> None:
        if self._ftp is not None:
            return
        place = urlsplit(f"ftp://{authority}")
        host, port = place.hostname or "", place.port or ftplib.FTP_PORT
        known = {"timeout": options.get("timeout", _TIMEOUT)}
        known["encoding"] = options.get("encoding", "utf-8")
        if options.get("tls"):
            self._ftp = _Tls(**known, context=ssl.create_default_context())
        else:
            self._ftp = ftplib.FTP(**known)  # noqa: S321 - whoever enables the scheme wants it
        self._ftp.connect(_guarded_address(host, port) if guarded else host, port)
        self._ftp.host = host  # what the certificate is for
        self._ftp.login(*(options.get(name) or "" for name in ("username", "password", "acct")))
        if isinstance(self._ftp, ftplib.FTP_TLS):
            self._ftp.prot_p()
        self._ftp.voidcmd("TYPE I")
        if self._aborted:  # while there was no socket yet
            self.abort()

    def abort(self) -> None:
        with self._aborting:
            self._aborted = True
        control = self._ftp.sock if self._ftp else None
        for one in (self._data, control):
            if one is not None:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        if self._ftp is not None:
            self._ftp.close()

    def look(self, path: str) -> Object | None:
        """The file at `path`; None: it is a directory.

        Raises:
            Missing: it isn't there, or may not be read.
        """
        if path.endswith("/"):
            return None
        try:
            told = self._told(path)
            return None if told.kind == "dir" else self._object(path, told)
        except ftplib.error_perm as error:
            if not str(error).startswith("550"):
                raise
            if self._is_directory(path):
                return None
            if isinstance(missing := _fault_of(error), Missing):
                raise missing from None
            # Some servers have the same words for both.
            raise Missing(f"it doesn't exist or may not be read ({missing})") from None

    def find(self, path: str) -> Object | None:
        """The file at `path`, if there is one that may be read."""
        try:
            return self.look(path)
        except Missing:
            return None

    def find_below(self, directory: str) -> list[Object]:
        """What lies below a directory, each directory as a marker; nothing if it isn't one."""
        path = directory or "/"
        try:
            if not self._is_directory(path) and self.look(path) is not None:
                return []
        except Missing:
            return []
        return list(self._walk(directory))

    def _walk(self, directory: str, above: tuple[str, ...] = ()) -> Iterator[Object]:
        """`above` are the identities of the directories it lies in, as far as the server tells."""
        self._connection.cwd(directory or "/")
        yield Object(f"{directory}/", 0, None)
        entries = self._entries()
        self._connection.voidcmd("TYPE I")  # a listing is text, and SIZE wants to know of bytes
        for entry in entries:
            path = f"{directory}/{entry.name}"
            try:
                yield from self._found(path, entry, above)
            except ftplib.error_perm as error:
                raise Fault(f"{path} in it can't be read (the server answered {error})") from None

    def _found(self, path: str, entry: _Entry, above: tuple[str, ...]) -> Iterator[Object]:
        if entry.kind == "dir" or (not entry.kind and self._is_directory(path)):
            if entry.identity not in above:  # else it is a link that leads in circles
                yield from self._walk(path, (*above, entry.identity) if entry.identity else above)
        elif entry.kind == "file":
            yield self._object(path, entry)
        elif not entry.kind:
            yield self._object(path, self._told(path))
        elif found := self.find(path):  # else it is a link that leads nowhere
            yield found

    def get(self, found: Object, destination: Path, transfer: Transfer) -> None:
        transfer.restart()
        with (
            self._transferring(f"RETR {found.path}") as data,
            self._emptied(destination) as file,
        ):
            while piece := data.recv(_PIECE):
                file.write(piece)
                transfer.moved(len(piece))
        self._end_of_transfer()
        if self.find(found.path) != found:
            raise Replaced
        if found.size != _UNKNOWN_SIZE:
            check_size(found, destination)

    def put(self, source: Path, path: str, transfer: Transfer) -> Object:
        """Has the bytes of `source` at `path`, or nothing of them; says what is there now."""
        transfer.restart()
        try:
            with opened(source) as file, self._transferring(f"STOR {path}") as data:
                while piece := file.read(_PIECE):
                    data.sendall(piece)
                    transfer.moved(len(piece))
                size = file.tell()
                if isinstance(data, ssl.SSLSocket):
                    data.unwrap()
            self._end_of_transfer()
            found = self.find(path)
            return Object(path, size, found.version if found else None)
        except BaseException:
            with suppress(Exception):
                self._connection.delete(path)
            raise

    def place(self, temporary: str, path: str) -> None:
        """Renames a file, in place of what was there."""
        self.make_directories(dirname(path))
        try:
            self._connection.rename(temporary, path)
        except ftplib.error_perm:
            if not self._is_there(temporary):  # what it would have replaced were lost for nothing
                raise Missing from None
            self._connection.delete(path)  # some servers don't replace what is there
            self._connection.rename(temporary, path)

    def remove(self, path: str) -> None:
        """Removes a file."""
        self._connection.delete(path)

    def remove_directory(self, path: str) -> None:
        """Removes a directory of files, if it is there."""
        try:
            self._connection.cwd(path)
        except ftplib.error_perm:
            return
        entries = self._entries()
        self._connection.cwd("/")
        self._connection.voidcmd("TYPE I")
        for entry in entries:
            with suppress(ftplib.error_perm):  # its owner may have removed or renamed it
                self.remove(f"{path}/{entry.name}")
        self._connection.rmd(path)

    def remove_if_empty(self, path: str) -> None:
        """Removes a directory, unless there is something in it."""
        with suppress(ftplib.error_perm):
            self._connection.rmd(path)

    def make_directories(self, path: str) -> None:
        """Has a directory there, with those above it."""
        path = path.rstrip("/")
        if not path or self._is_directory(path):
            return
        self.make_directories(dirname(path))
        try:
            self._connection.mkd(path)
        except ftplib.error_perm:
            if not self._is_directory(path):  # somebody else may have made it
                raise

    @property
    def _connection(self) -> ftplib.FTP:
        assert self._ftp is not None, "open() comes first"
        return self._ftp

    def _is_there(self, path: str) -> bool:
        """Whether there is such a file, also on a server that tells neither sizes nor times."""
        found = self.find(path)
        if found is None or found.size != _UNKNOWN_SIZE or found.version is not None:
            return found is not None
        directory, _, name = path.rpartition("/")
        if not self._is_directory(directory or "/"):
            return False
        entries = self._entries()
        self._connection.voidcmd("TYPE I")
        return any(name == entry.name for entry in entries)

    def _told(self, path: str) -> _Entry:
        if self._has_mlst:
            try:
                answer = self._connection.sendcmd(f"MLST {path}").splitlines()
                with suppress(_UnknownListing):
                    return _Entry.of_facts("".join(answer[1:2]).lstrip())
            except ftplib.error_perm as error:
                if not str(error).startswith(_NOT_KNOWN):
                    raise
                self._has_mlst = False
        return _Entry(path)

    def _object(self, path: str, told: _Entry) -> Object:
        """A file of which the server has told so much."""
        if told.kind == "file" and told.size is not None:
            return Object(path, told.size, told.changed or self._changed(path))
        return Object(path, self._size(path), self._changed(path))

    def _size(self, path: str) -> int:
        try:
            size = self._connection.size(path)
        except ftplib.error_perm as error:
            if not str(error).startswith(_NOT_KNOWN):
                raise
            size = None
        return _UNKNOWN_SIZE if size is None else size

    def _changed(self, path: str) -> str | None:
        try:
            return self._connection.voidcmd(f"MDTM {path}").removeprefix("213").strip()
        except ftplib.error_perm:
            return None

    def _entries(self) -> list[_Entry]:
        """What is in the working directory."""
        try:
            self._connection.sendcmd("OPTS MLST type;size;modify;unique;")
            lines = self._lines("MLSD")
        except ftplib.error_perm as error:
            if not str(error).startswith(_NOT_KNOWN):
                raise
            return self._entries_of_unix()
        entries = (_Entry.of_facts(line) for line in lines if line)
        return [
            entry
            for entry in entries
            if entry.kind not in {"cdir", "pdir"} and entry.name not in {".", ".."}
        ]

    def _entries_of_unix(self) -> list[_Entry]:
        lines = self._lines("LIST -a")
        rows = [line.split(maxsplit=8) for line in lines if not _NO_ENTRY.fullmatch(line)]
        if not all(len(row) == 9 and _MODE.match(row[0]) for row in rows):
            raise _UnknownListing
        kinds = {"-": "file", "d": "dir"}
        entries = (
            _Entry(row[8].partition(" -> ")[0], kinds.get(row[0][0], "other")) for row in rows
        )
        return [entry for entry in entries if entry.name not in {".", ".."}]

    def _lines(self, command: str) -> list[str]:
        lines: list[str] = []
        self._connection.retrlines(command, lines.append)
        return lines

    def _is_directory(self, path: str) -> bool:
        try:
            self._connection.cwd(path)
        except ftplib.error_perm:
            return False
        return True

    def _transferring(self, command: str) -> socket.socket:
        self._data = self._connection.transfercmd(command)
        if self._aborted:
            self.abort()
        return self._data

    def _emptied(self, destination: Path) -> BinaryIO:
        with self._aborting:
            if self._aborted:  # and by now somebody else may write to a file of this name
                raise ConnectionAbortedError
            return destination.open("wb")

    def _end_of_transfer(self) -> None:
        self._data = None
        self._connection.voidresp()


def _guarded_address(host: str, port: int) -> str:
    """The address behind a name, judged."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    address = str(found[0][4][0])
    if refusal := refusal_of_address(address):
        raise Forbidden(refusal)
    return address


def _fault_of(error: Exception) -> Fault:
    match error:
        case ftplib.error_perm() if str(error).startswith("530"):
            return Fault(f"access is denied (the server answered {error})")
        case ftplib.error_perm() if "no such file" in str(error).lower():
            return Missing()
        case ftplib.error_temp():
            return Fault(f"the server answered {error}", passing=True)
        case ftplib.Error():
            return Fault(f"the server answered {error}")
        case _:
            return faults.fault_of(error)
