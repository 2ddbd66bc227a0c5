"""`raytes serve`: one service from its start to its stop."""

import contextlib
import http.client
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import raytes
from raytes.config import Settings
from raytes.errors import RaytesError
from raytes.models import BASE_PATH
from raytes.state import claimed, ray_token
from raytes.store.database import database_of, prepare, recall, with_password
from raytes.surroundings import (
    free_ports,
    joins,
    own_ray_variables,
    runtime_directory,
    serve_variables,
)

if TYPE_CHECKING:
    from raytes.dispatch.health import Health

_READY_WITHIN_S = 120.0
_READY_EVERY_S = 0.02
_ANSWER_WITHIN_S = 5.0
# PostgreSQL takes half a minute to find out that another store's machine is gone.
_STORE_READY_WITHIN_S = 60.0
_STORE_READY_TOLD_S = 5.0
_STOP_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.1
_FIRST_LOOK_S = 15.0
# A Ray of our own never gets another node.
_OWN_RAY_INFEASIBLE_GRACE_S = 5.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class CannotServe(RaytesError):
    """The service can't be started as it was asked for."""

    failure_reason = "cannot_serve"


def main(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM; the exit code of the process."""
    stdout = sys.stdout
    try:
        _on_signals(_interrupt)
        # Where Ray would say which of its workers have died.
        with contextlib.redirect_stdout(sys.stderr), _running(settings) as (url, store):
            told = _signals_told()
            print(f"raytes {raytes.__version__} is serving at {url}", file=stdout, flush=True)
            for line in _shortcomings(store, told):
                print(f"WARNING: {line}", file=sys.stderr, flush=True)
            while os.read(told, 1)[0] not in _SIGNALS:
                pass
            _drain(store, settings.drain_timeout, told)
    except RaytesError as error:
        print(f"raytes serve: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _drain(store: Any, timeout: float, told: int) -> None:
    """Have the running tasks end, or given back after `timeout` seconds or a further signal."""
    import ray

    patience = f": running tasks have {timeout:g} seconds, or until the next signal"
    print(f"stopping{patience if timeout else ''}", file=sys.stderr, flush=True)
    drained = store.drain.remote()
    deadline = time.monotonic() + timeout + _STOP_WITHIN_S
    while time.monotonic() < deadline and not ray.wait([drained], timeout=_LOOK_EVERY_S)[0]:
        if select.select([told], [], [], 0)[0] and os.read(told, 1)[0] in _SIGNALS:
            store.hurry.remote()
            deadline = min(deadline, time.monotonic() + _STOP_WITHIN_S)


def _shortcomings(store: Any, told: int) -> Iterator[str]:
    """What the nodes that are there can't do for tasks; nothing if a signal comes first."""
    import ray

    look = store.health.remote(patience_s=_FIRST_LOOK_S)
    with contextlib.suppress(ray.exceptions.RayError):
        while not ray.wait([look], timeout=_LOOK_EVERY_S)[0]:
            if select.select([told], [], [], 0)[0]:
                return
        health: Health = ray.get(look)
        for each in health.nodes:
            for sentence in each.condition.shortcomings if each.condition else ():
                yield f"node {each.node.name}: {sentence}"


def _signals_told() -> int:
    """A pipe from which the numbers of all signals can be read, from now on.

    Not written by handlers: these wait for the main thread, and of several signals that come at
    once one of Ray's threads may take all, which wakes nobody.
    """
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    # Only now: Ray puts handlers of its own in place of what was there before.
    _on_signals(lambda *_: None)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    return told


def _on_signals(handler: Callable[[int, FrameType | None], object]) -> None:
    for number in _SIGNALS:
        signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _running(settings: Settings) -> Iterator[tuple[str, Any]]:
    """The service while it is up; its base URL and its store."""
    with claimed(settings), runtime_directory(settings) as directory:
        settings = with_password(_settled(settings))
        prepare(database_of(settings))
        os.environ.update(serve_variables(directory))
        with _ray(settings, directory), _store(settings) as store, _ingress(settings):
            # It starts while the ingress does.
            _await_ready(store)
            url = f"http://{_reachable(settings.host)}:{settings.port}{BASE_PATH}"
            _await_answer(url)
            yield url, store


def _settled(settings: Settings) -> Settings:
    """The settings with what is decided at the start: the port, and what depends on the Ray."""
    decided: dict[str, object] = {"port": settings.port or free_ports(1)[0]}
    if not joins():
        grace = min(settings.infeasible_grace, _OWN_RAY_INFEASIBLE_GRACE_S)
        decided["infeasible_grace"] = grace
    settings = settings.model_copy(update=decided)
    if not joins():  # Serve of a cluster may have the port already, and rightly
        _require_free_port(settings)
    return settings


def _require_free_port(settings: Settings) -> None:
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


def _ray(settings: Settings, directory: Path) -> contextlib.AbstractContextManager[None]:
    if not joins():
        os.environ.update(own_ray_variables(ray_token(settings), directory))
    # Ray reads the environment when it is imported.
    from raytes.cluster import joined_ray, own_ray

    # It takes a second, and so long nothing is done here while Ray starts.
    threading.Thread(target=import_module, args=["raytes.api.deployment"], daemon=True).start()
    return joined_ray(settings) if joins() else own_ray(settings, directory)


@contextlib.contextmanager
def _store(settings: Settings) -> Iterator[Any]:
    """The store, on its way up and then while it runs."""
    import ray

    from raytes.store.actor import Identity, lives, replace

    known = recall(database_of(settings))
    if "instance" in known:
        _sweep(settings, known["instance"])
    node = ray.get_runtime_context().get_node_id()
    # On a cluster that it joined, a killed service has left its store and runners at work: the
    # new store goes on as the old one would have.
    session = known.get("session") if lives() else None
    store = replace(settings, Identity(session or uuid.uuid4().hex, node))
    try:
        yield store
    finally:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(store.stop.remote(), timeout=_STOP_WITHIN_S)
        ray.kill(store)


def _await_ready(store: Any) -> None:
    import ray

    deadline = time.monotonic() + _STORE_READY_WITHIN_S
    told = False
    while True:
        try:
            # With a limit: a store that can't start is started again, for ever.
            ray.get(store.ready.remote(_STORE_READY_TOLD_S), timeout=_STORE_READY_WITHIN_S)
            return
        except ray.exceptions.GetTimeoutError:
            raise CannotServe(
                f"the task store did not start within {_STORE_READY_WITHIN_S:.0f} seconds: "
                "the logs of Ray's workers say why"
            ) from None
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, RaytesError):
                raise
            if time.monotonic() > deadline:
                raise error.cause from None
            if not told:
                print(f"waiting: {error.cause}", file=sys.stderr, flush=True)
                told = True


def _sweep(settings: Settings, instance: str) -> None:
    """Remove what a killed service left on this node, before its tasks are tried again."""
    from raytes.runner.sweep import sweep

    try:
        for line in sweep(settings, instance):
            print(f"removed {line}, left by an earlier run", file=sys.stderr)
    except RaytesError as error:
        # This node may be one that serves and runs no tasks.
        print(f"WARNING: this node could not be swept: {error}", file=sys.stderr)


@contextlib.contextmanager
def _ingress(settings: Settings) -> Iterator[None]:
    """HAProxy and the API replica while they run."""
    import ray
    from ray import serve
    from ray.serve.exceptions import RayServeException

    from raytes.api.deployment import application
    from raytes.cluster import serve_host, serve_runs

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if joins() and not serve_runs():
        _require_free_port(settings)
    try:
        try:
            _start_serve(settings)
            node = ray.get_runtime_context().get_node_id()
            if joins():  # one that ran there already keeps its own
                settings = settings.model_copy(update={"host": serve_host()})
            serve.run(application(settings, node), name=settings.name, route_prefix="/")
        except (ray.exceptions.RayError, RayServeException, RuntimeError, TimeoutError) as error:
            raise CannotServe(f"Ray Serve did not take the application: {error}") from None
        yield
    finally:
        if joins():
            with contextlib.suppress(RayServeException):  # it wasn't started
                serve.delete(settings.name)
                if not serve.status().applications:
                    serve.shutdown()  # type: ignore[no-untyped-call]


def _start_serve(settings: Settings) -> None:
    import ray
    from ray import serve

    listen_on = {"host": settings.host, "port": settings.port}
    try:
        serve.start(http_options=listen_on)
    except (ray.exceptions.RayTaskError, TimeoutError) as error:
        # An HAProxy that was killed, say. Serve starts another, and then there is an answer.
        print(f"waiting: {getattr(error, 'cause', error)}", file=sys.stderr, flush=True)
        serve.start(http_options=listen_on)  # takes the Serve that is there


def _reachable(host: str) -> str:
    """An address of this machine on which `host` is reached, as it stands in a URL."""
    if host in ("0.0.0.0", "::"):  # noqa: S104
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _await_answer(url: str) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    place = urlsplit(url)
    while time.monotonic() < deadline:
        # This knows of no proxy, and one that the environment names need not reach this machine.
        connection = http.client.HTTPConnection(place.netloc, timeout=_ANSWER_WITHIN_S)
        unanswered = contextlib.suppress(OSError, http.client.HTTPException)
        with unanswered, contextlib.closing(connection):
            connection.request("GET", f"{place.path}/service-info")
            if connection.getresponse().status == HTTPStatus.OK:
                return
        time.sleep(_READY_EVERY_S)
    hint = " (a Ray Serve that runs already keeps its own host and port)" if joins() else ""
    raise CannotServe(f"{url} did not answer within {_READY_WITHIN_S:.0f} seconds{hint}")
