"""SeaweedFS, an S3 server that people run."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .servers import free_port, running

KEY, SECRET = "lab-key", "lab-secret"
PUBLIC = "public"  # the bucket that anyone may read
_ACTIONS = ["Admin", "Read", "Write", "List", "Tagging"]


@contextmanager
def seaweedfs(directory: Path) -> Iterator[str]:
    """The URL of a server that keeps its objects in `directory`."""
    config = directory / "s3.json"
    credentials = [{"accessKey": KEY, "secretKey": SECRET}]
    lab = {"name": "lab", "credentials": credentials, "actions": _ACTIONS}
    anonymous = {"name": "anonymous", "actions": [f"Read:{PUBLIC}", f"List:{PUBLIC}"]}
    config.write_text(json.dumps({"identities": [lab, anonymous]}))
    port = free_port()
    servers = ("master", "volume", "filer", "s3")
    ports = {f"{server}.port.grpc": free_port() for server in servers}
    ports |= {f"{server}.port": free_port() for server in servers[:3]}
    weed = Path(sys.executable).with_name("weed")
    command = [
        str(weed),
        f"-logdir={directory}",
        "server",
        f"-dir={directory}",
        "-ip=127.0.0.1",
        "-volume.max=1000",
        "-s3",
    ]
    command += [f"-s3.port={port}", f"-s3.config={config}"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # which would be at fixed ports
    command += [f"-{name}={number}" for name, number in ports.items()]
    with running(command, port) as server:
        yield f"http://127.0.0.1:{port}"
        server.kill()  # its orderly end takes half a minute
    for number in (port, *ports.values()):
        for socket in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):
            socket.unlink()
