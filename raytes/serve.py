"""`raytes serve`: one service from its start to its stop."""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx

import raytes
from raytes.config import Settings
from raytes.errors import RaytesError
from raytes.state import claimed, ray_token
from raytes.surroundings import free_ports, own_ray_variables, runtime_directory, serve_variables

BASE_PATH = "/ga4gh/tes/v1"

_READY_WITHIN_S = 120.0
_READY_EVERY_S = 0.02
_STOP_WITHIN_S = 30.0
# Runners pass no large objects: what Ray keeps for these is taken from the tasks' memory.
_OBJECT_STORE_BYTES = 100 * 2**20
# A Ray of our own never gets another node.
_OWN_RAY_INFEASIBLE_GRACE_S = 5.0


class CannotServe(RaytesError):
    """The service can't be started as it was asked for."""

    failure_reason = "cannot_serve"


def main(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM; the exit code of the process."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        with _running(settings) as url:
            print(f"raytes {raytes.__version__} is serving at {url}", flush=True)
            # Ray puts a handler of its own in place of ours.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stop.set())
            stop.wait()
            print("stopping", file=sys.stderr, flush=True)
    except RaytesError as error:
        print(f"raytes serve: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _running(settings: Settings) -> Iterator[str]:
    """The service while it is up; its base URL."""
    with claimed(settings), runtime_directory(settings) as directory:
        if settings.port == 0:
            settings = settings.model_copy(update={"port": free_ports(1)[0]})
        _require_free(settings)
        joins = bool(os.environ.get("RAY_ADDRESS"))
        os.environ.update(serve_variables(settings, directory))
        if not joins:
            os.environ.update(own_ray_variables(ray_token(settings)))
            grace = min(settings.infeasible_grace, _OWN_RAY_INFEASIBLE_GRACE_S)
            settings = settings.model_copy(update={"infeasible_grace": grace})
        with _ray(settings, directory, joins), _store(settings) as node, _ingress(settings, node):
            url = f"http://{_reachable(settings.host)}:{settings.port}{BASE_PATH}"
            _await_answer(url)
            yield url


def _require_free(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise CannotServe(
                f"can't listen on {settings.host}:{settings.port} ({error.strerror}): "
                "choose another --host or --port (0 takes any free port)"
            ) from None


@contextlib.contextmanager
def _ray(settings: Settings, directory: Path, joins: bool) -> Iterator[None]:
    """A connection to the cluster that RAY_ADDRESS names, or to a Ray of our own."""
    import ray

    if joins:
        variables = {k: v for k, v in os.environ.items() if k.startswith("RAY_SERVE_")}
        ray.init(
            namespace=settings.name,
            runtime_env={"env_vars": variables},
            logging_level=logging.WARNING,
            log_to_driver=False,
        )
        if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
            print(
                "WARNING: this Ray cluster does not ask for a token. Whoever reaches its ports, "
                "tasks included, can run any code on it. See docs/how-to/cluster.md.",
                file=sys.stderr,
                flush=True,
            )
    else:
        ray.init(
            address="local",
            namespace=settings.name,
            include_dashboard=False,
            logging_level=logging.WARNING,
            log_to_driver=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            _temp_dir=str(directory),
        )
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _store(settings: Settings) -> Iterator[str]:
    """The store while it runs; the id of the Ray node that it is bound to."""
    import ray

    from raytes.store.actor import NAME, Identity, start

    node = ray.get_runtime_context().get_node_id()
    with contextlib.suppress(ValueError):
        # Left by a `serve` that was killed on a cluster which lives on.
        ray.kill(ray.get_actor(NAME))
    store = start(settings, Identity(session=uuid.uuid4().hex, node=node))
    try:
        ray.get(store.ready.remote())
        yield node
    finally:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(store.stop.remote(), timeout=_STOP_WITHIN_S)
        ray.kill(store)


@contextlib.contextmanager
def _ingress(settings: Settings, node: str) -> Iterator[None]:
    """HAProxy and the API replica while they run."""
    from ray import serve

    from raytes.api.deployment import application

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(http_options={"host": settings.host, "port": settings.port})
    serve.run(application(settings, node), name=settings.name, route_prefix="/")
    try:
        yield
    finally:
        if os.environ.get("RAY_ADDRESS"):
            serve.delete(settings.name)


def _reachable(host: str) -> str:
    """An address of this machine on which `host` is reached, as it stands in a URL."""
    if host in ("0.0.0.0", "::"):  # noqa: S104
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _await_answer(url: str) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/service-info", timeout=5).is_success:
                return
        time.sleep(_READY_EVERY_S)
    raise CannotServe(f"{url} did not answer within {_READY_WITHIN_S:.0f} seconds")
