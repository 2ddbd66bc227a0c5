"""The engine: a thin typed layer over Podman's own REST API on a unix socket.

Only what Podman 4.x and 5.x share is used (`/v4.0.0/libpod/…`). Each call opens its own
connection, so that an `Engine` can be used from every thread.
"""

import http.client
import json
import os
import select
import socket
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast
from urllib.parse import quote, urlencode

from raytes.errors import ContainerLost, ContainerRefused, PodmanUnavailable, SystemFault
from raytes.runner.mounts import normal

_API: Final = "/v4.0.0/libpod"
_BUFFER: Final = 256 * 2**10  # bytes
_TIMEOUT: Final = 120.0  # seconds without a byte; a pull says something far more often


class NotFound(ContainerRefused):
    """What was asked for (image, container, path in it) isn't there."""


class Conflict(ContainerRefused):
    """The container is in a state in which this can't be done."""


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What Podman says of a container."""

    status: str  # created, initialized, running, stopping, stopped, exited …
    exit_code: int
    oom_killed: bool
    pid: int  # of the program on the node, 0 if there is none
    conmon_pid: int
    network: str  # none, host, bridge, slirp4netns …
    layer: Path | None  # on the node: what it has written into its own filesystem

    @property
    def ended(self) -> bool:
        return self.status in ("exited", "stopped")


@dataclass(frozen=True, slots=True)
class Image:
    """What Podman says of an image on the node."""

    id: str
    digest: str
    entrypoint: tuple[str, ...]
    volumes: tuple[str, ...]  # normal paths, each once


class Engine:
    """A Podman API service, by the path of its socket."""

    def __init__(self, address: Path) -> None:
        self.address = address

    def ping(self) -> bool:
        """Whether the service answers."""
        try:
            return self._call("GET", "/_ping", timeout=5.0) == b"OK"
        except SystemFault:
            return False

    def info(self) -> dict[str, Any]:
        """What Podman says of the node and of itself."""
        return cast(dict[str, Any], self._json("GET", "/info"))

    # Images

    def inspect_image(self, name: str) -> Image:
        """What Podman knows of an image on the node; raises NotFound."""
        document = self._json("GET", f"/images/{_quote(name)}/json")
        config = document.get("Config") or {}
        return Image(
            id=document["Id"],
            digest=document.get("Digest") or f"sha256:{document['Id']}",
            entrypoint=tuple(config.get("Entrypoint") or ()),
            volumes=tuple(sorted({normal(path) for path in config.get("Volumes") or ()})),
        )

    def pull(self, reference: str) -> "Pull":
        """Begin to pull an image; it ends with the `Pull`."""
        return Pull(_Connection(self.address, _TIMEOUT), reference)

    # Containers

    def create(self, specification: Mapping[str, Any]) -> tuple[str, list[str]]:
        """Create a container from Podman's SpecGenerator; returns its id and Podman's warnings."""
        created = self._json("POST", "/containers/create", body=specification)
        return created["Id"], created.get("Warnings") or []

    def start(self, container: str) -> None:
        """Start a container; raises ContainerRefused with the runtime's words."""
        self._call("POST", f"/containers/{container}/start")

    def inspect(self, container: str) -> ContainerState:
        """The container's state now; raises NotFound."""
        document = self._json("GET", f"/containers/{container}/json")
        state = document["State"]
        layer = (document["GraphDriver"].get("Data") or {}).get("UpperDir")
        return ContainerState(
            status=state["Status"],
            exit_code=state["ExitCode"],
            oom_killed=state["OOMKilled"],
            pid=state["Pid"],
            conmon_pid=state.get("ConmonPid", 0),
            network=document["HostConfig"]["NetworkMode"],
            layer=Path(layer) if layer else None,
        )

    def kill(self, container: str, signal: str = "KILL") -> None:
        """Send a signal to PID 1 of a container; one that has ended is no error."""
        try:
            self._call("POST", f"/containers/{container}/kill", {"signal": signal})
        except (NotFound, Conflict):
            return

    def remove(self, container: str) -> None:
        """Remove a container and its anonymous volumes, running or not; none is no error."""
        # Not `v`, though it is what Podman documents: only its Docker API heeds that.
        query = {"force": "true", "volumes": "true", "timeout": "0", "ignore": "true"}
        try:
            self._call("DELETE", f"/containers/{container}", query)
        except NotFound:
            return

    def containers(self, labels: Iterable[str]) -> list[dict[str, Any]]:
        """Podman's list entries of all containers that carry the labels (`key=value`)."""
        filters = json.dumps({"label": list(labels)})
        query = {"all": "true", "filters": filters}
        return cast(list[dict[str, Any]], self._json("GET", "/containers/json", query))

    def initialize(self, container: str) -> None:
        """Let the runtime prepare a container up to its program; it is then to be attached to.

        Raises:
            ContainerRefused: with the runtime's words, also where the program is missing.
        """
        # Attaching or starting would do this too, but attaching hangs where this is refused.
        self._call("POST", f"/containers/{container}/init")

    def attach(self, container: str, conmon: int | None = None) -> "Attachment":
        """Attach to what an initialized container will write.

        Parameters:
            conmon: a pidfd of the process that watches over it, if that can be seen.

        Raises:
            ContainerLost: it ended before its program began.
        """
        return self._attach(container, {"stdout": "true", "stderr": "true"}, conmon)

    def attach_stdin(self, container: str, conmon: int | None = None) -> "Attachment":
        """Attach to the stdin of an initialized container, as `attach` does.

        A connection of its own, because Podman reports a program that doesn't read its stdin
        to the end as a line of stderr.
        """
        streams = {"stdin": "true", "stdout": "false", "stderr": "false"}
        return self._attach(container, streams, conmon)

    def _attach(
        self, container: str, streams: Mapping[str, str], conmon: int | None
    ) -> "Attachment":
        # Without the empty detachKeys, ctrl-p ctrl-q in binary data would end the stream.
        query = urlencode({"stream": "true", "detachKeys": "", **streams})
        connection = _Connection(self.address, _TIMEOUT)
        try:
            connection.request(
                "POST",
                f"{_API}/containers/{container}/attach?{query}",
                headers={"Connection": "Upgrade", "Upgrade": "tcp"},
            )
            connected = cast(socket.socket, connection.sock)
            # Podman says nothing at all where the container has ended.
            if conmon is not None and _ends_first(conmon, connected):
                connection.close()
                raise ended_early(container)
            return Attachment(connected)
        except OSError as error:
            connection.close()
            raise PodmanUnavailable(
                f"the Podman service at {self.address} went away while attaching: {error!r}"
            ) from error

    # Files of a container

    @contextmanager
    def read_archive(self, container: str, path: str) -> Iterator[tarfile.TarFile]:
        """A path of a container as a tar stream; raises NotFound."""
        with (
            self._open("GET", f"/containers/{container}/archive", {"path": path}) as response,
            tarfile.open(fileobj=cast(IO[bytes], response), mode="r|") as archive,
        ):
            yield archive

    def write_archive(self, container: str, path: str, archive: IO[bytes]) -> None:
        """Unpack a tar stream into a directory of a container."""
        query = {"path": path, "copyUIDGID": "true"}
        self._call("PUT", f"/containers/{container}/archive", query, body=archive)

    def changes(self, container: str) -> list[str]:
        """The paths that were added or changed in a container's own filesystem."""
        changes = self._json("GET", f"/containers/{container}/changes") or []
        return [change["Path"] for change in changes if change["Kind"] != 2]

    # The wire

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: IO[bytes] | bytes | None = None,
        timeout: float = _TIMEOUT,
    ) -> bytes:
        with self._open(method, path, query, body, timeout) as response:
            return response.read()

    def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        encoded = None if body is None else json.dumps(body).encode()
        return json.loads(self._call(method, path, query, encoded))

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: IO[bytes] | bytes | None = None,
        timeout: float = _TIMEOUT,
    ) -> Iterator[http.client.HTTPResponse]:
        connection = _Connection(self.address, timeout)
        kind = "application/json" if isinstance(body, bytes) else "application/x-tar"
        target = f"{_API}{path}?{urlencode(query)}" if query else f"{_API}{path}"
        gone = f"the Podman service at {self.address} went away during {method} {path}"
        try:
            try:
                connection.request(method, target, body, {"Content-Type": kind} if body else {})
                response = connection.getresponse()
                if response.status >= 400:
                    raise _refusal(response.status, response.read())
            except (OSError, http.client.HTTPException) as error:
                raise PodmanUnavailable(f"{gone}: {error!r}") from error
            try:
                yield response
            # Not what the disk says of that which is read: it isn't Podman's.
            except (ConnectionError, TimeoutError, http.client.HTTPException) as error:
                raise PodmanUnavailable(f"{gone}: {error!r}") from error
        finally:
            connection.close()


class Pull:
    """An image on its way to the node."""

    def __init__(self, connection: "_Connection", reference: str) -> None:
        self._connection = connection
        self._reference = reference

    def run(self) -> None:
        """Pull to the end.

        Raises:
            ContainerRefused: with the registry's own words.
            PodmanUnavailable: the service went away, or the pull was aborted.
        """
        query = urlencode({"reference": self._reference, "policy": "always"})
        pulled = False
        try:
            self._connection.request("POST", f"{_API}/images/pull?{query}")
            response = self._connection.getresponse()
            if response.status >= 400:
                raise _refusal(response.status, response.read())
            for line in response:
                event = json.loads(line)
                if event.get("error"):
                    raise ContainerRefused(event["error"])
                pulled = pulled or bool(event.get("id"))
        except (OSError, http.client.HTTPException) as error:
            raise PodmanUnavailable(
                f"the pull of {self._reference} broke off: {error!r}"
            ) from error
        finally:
            self._connection.close()
        if not pulled:
            raise PodmanUnavailable(f"the pull of {self._reference} broke off")

    def abort(self) -> None:
        """End the pull; may be called from another thread."""
        if (connected := self._connection.sock) is not None:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)


class Attachment:
    """Streams of a container over a hijacked connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._reader = connection.makefile("rb", buffering=_BUFFER)
        # Notices the end of the service, which the end of the stream alone can't tell from the
        # end of a program, or from one that has closed its stdout and goes on.
        self._service = _peer(connection)
        try:
            self._accept()
        except BaseException:
            self.close()
            raise

    def _accept(self) -> None:
        answer = self._reader.readline()
        if not answer.endswith(b"\n"):  # it isn't a refusal: nobody has said anything
            raise ConnectionResetError("it hung up without an answer")
        status = int(answer.partition(b" ")[2][:3])
        length = -1  # to the end of the connection
        while line := self._reader.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if status >= 400:
            raise _refusal(status, self._reader.read(length))
        self._socket.settimeout(None)

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """What the program writes: (1 for stdout or 2 for stderr, bytes), until both are closed."""
        try:
            while len(header := self._reader.read(8)) == 8:
                yield header[0], self._reader.read(int.from_bytes(header[4:], "big"))
        except (OSError, ValueError):  # reset, or closed by `close`
            return

    def write(self, data: bytes) -> None:
        """Write to the program's stdin; raises OSError when nobody will read it any more."""
        self._socket.sendall(data)

    def end_stdin(self) -> None:
        """Close the program's stdin."""
        self._socket.shutdown(socket.SHUT_WR)

    @property
    def service_died(self) -> bool:
        """Whether the service that carried these streams has ended."""
        return self._service is not None and has_ended(self._service, 0)

    def close(self) -> None:
        """Let go of the streams; a blocked `write` or `frames` returns."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if self._service is not None:
            os.close(self._service)
            self._service = None


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    sock: socket.socket | None

    def __init__(self, address: Path, timeout: float) -> None:
        super().__init__("podman", timeout=timeout)
        self._address = address

    def connect(self) -> None:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.settimeout(self.timeout)
        connected.connect(str(self._address))
        self.sock = connected


def ended_early(container: str) -> ContainerLost:
    """What is wrong with a container that somebody else has ended before its program began."""
    return ContainerLost(
        f"the container {container[:12]} ended before its program began, and not by raytes"
    )


def has_ended(process: int, within: float) -> bool:
    """Whether the process behind a pidfd has ended, or does `within` so many seconds."""
    poll = select.poll()  # `select` knows no descriptor above 1023
    poll.register(process, select.POLLIN)
    return bool(poll.poll(within * 1000))


def _ends_first(process: int, connection: socket.socket) -> bool:
    """Whether the process behind a pidfd ends before anything comes over the connection."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.register(connection, select.POLLIN)
    return [ready for ready, _ in poll.poll(_TIMEOUT * 1000)] == [process]


def _peer(connection: socket.socket) -> int | None:
    """A pidfd of the process at the other end, if it is one of this machine's."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid = int.from_bytes(credentials[:4], sys.byteorder)
    try:
        return os.pidfd_open(pid) if pid > 0 else None
    except OSError:
        return None


def _refusal(status: int, body: bytes) -> SystemFault:
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace").strip() or f"HTTP status {status}"
    if status == 404:
        return NotFound(message)
    if status == 409 or "container state improper" in message:
        return Conflict(message)
    return ContainerRefused(message)


def _quote(name: str) -> str:
    return quote(name, safe="")
