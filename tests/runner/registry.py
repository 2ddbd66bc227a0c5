"""A container registry in a thread: it serves images that Podman has saved, and fails on demand."""

import base64
import json
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass
class Registry:
    """What a registry has, asks for, and was asked for."""

    directory: Path
    user: str = ""  # "name:password"; empty: anybody may pull
    images: dict[str, Path] = field(default_factory=dict)  # "name/reference" → where it is saved
    faults: int = 0  # so many requests for manifests are answered with `fault`
    fault: tuple[int, str, str] = (503, "UNAVAILABLE", "busy")  # a status, a code, words
    manifests_served: int = 0
    on_blob: threading.Event = field(default_factory=threading.Event)
    """Set when a request for a blob was met by `blobs_wait`."""
    blobs_wait: threading.Event | None = None  # so long no blob is sent

    def __post_init__(self) -> None:
        registry = self

        class Handler(_Handler):
            shelf = registry

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def add(self, image: str, name: str, tag: str = "latest") -> str:
        """Offer an image of this node; returns its name at this registry."""
        saved = self.directory / name / tag
        saved.parent.mkdir(parents=True, exist_ok=True)
        command = ["podman", "save", "--quiet", "--format", "docker-dir", "--output", str(saved)]
        subprocess.run([*command, image], check=True, capture_output=True)
        self.images[f"{name}/{tag}"] = saved
        return f"{self.address}/{name}:{tag}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    shelf: Registry
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        expected = "Basic " + base64.b64encode(self.shelf.user.encode()).decode()
        if self.shelf.user and self.headers.get("Authorization") != expected:
            self._answer(401, b"", {"WWW-Authenticate": 'Basic realm="test"'})
            return
        name, _, rest = self.path.removeprefix("/v2/").partition("/manifests/")
        if rest:
            self._manifest(name, rest)
        elif "/blobs/" in self.path:
            name, _, digest = self.path.removeprefix("/v2/").partition("/blobs/")
            if self.shelf.blobs_wait is not None:
                self.shelf.on_blob.set()
                self.shelf.blobs_wait.wait()
            saved = next(path for key, path in self.shelf.images.items() if key.startswith(name))
            self._answer(200, (saved / digest.removeprefix("sha256:")).read_bytes())
        else:
            self._answer(200, b"{}")

    do_HEAD = do_GET

    def _manifest(self, name: str, reference: str) -> None:
        if self.shelf.faults > 0:
            self.shelf.faults -= 1
            self._refuse(*self.shelf.fault)
        elif saved := self.shelf.images.get(f"{name}/{reference}"):
            self.shelf.manifests_served += 1
            manifest = (saved / "manifest.json").read_bytes()
            self._answer(200, manifest, {"Content-Type": _DOCKER_MANIFEST})
        else:
            self._refuse(404, "MANIFEST_UNKNOWN", "manifest unknown")

    def _refuse(self, status: int, code: str, words: str) -> None:
        error = {"code": code, "message": words}
        self._answer(status, json.dumps({"errors": [error]}).encode())

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            with suppress(ConnectionError):  # who has asked may be gone by now
                self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass
