"""The Ray that a service runs on: one of its own, or a cluster that it joins."""

import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc  # which Ray Serve comes with
import ray

from raytes.config import Settings
from raytes.errors import RaytesError

# Runners pass no large objects: what Ray keeps for these is taken from the tasks' memory.
_OBJECT_STORE_BYTES = 100 * 2**20

_KNOCK_TIMEOUT_S = 10.0

_ANY_CALL = "/ray.rpc.NodeInfoGcsService/CheckAlive"  # its request may be empty

_CLAIM = "serve"
_CLAIM_WITHIN_S = 10.0
_CLAIM_EVERY_S = 0.2

_OPEN_CLUSTER = """\
WARNING: this Ray cluster asks nobody for a token. Whoever reaches its ports, the containers
of tasks included, can run any code on all its nodes. Start it with RAY_AUTH_MODE=token
(docs/how-to/cluster.md says how)."""
_IN_VAIN = (
    "this Ray cluster asks nobody for a token, and this process does (RAY_AUTH_MODE=token, or a "
    "token at ~/.ray/auth_token): so they can't work together. Start the cluster with the token "
    "(docs/how-to/cluster.md says how); or, if nobody but you reaches its ports, set "
    "RAY_AUTH_MODE=disabled here"
)


class ClusterUnreachable(RaytesError):
    """No cluster answers where one is to be joined."""


class NameTaken(RaytesError):
    """A service of the same name is being served on the cluster."""

    failure_reason = "name_taken"


@contextlib.contextmanager
def own_ray(settings: Settings, directory: Path) -> Iterator[None]:
    """A Ray on this machine that starts and ends with the service.

    Parameters:
        directory: where its sockets and logs go; a short path.
    """
    ray.init(
        address="local",
        namespace=settings.name,
        include_dashboard=False,
        logging_level=logging.WARNING,
        log_to_driver=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        _temp_dir=str(directory),
    )
    # For a notebook or driver that wants to join, beside the token that it needs.
    address = settings.state_dir / "ray-address"
    address.write_text(ray.get_runtime_context().gcs_address + "\n")
    try:
        yield
    finally:
        address.unlink(missing_ok=True)
        ray.shutdown()


@contextlib.contextmanager
def joined_ray(settings: Settings) -> Iterator[None]:
    """A connection to the cluster that RAY_ADDRESS names, with the service's name claimed.

    Raises:
        ClusterUnreachable: there is no cluster, or one that doesn't want this process's token.
        NameTaken: a service of that name is being served there.
    """
    variables = {name: value for name, value in os.environ.items() if name.startswith("RAY_SERVE_")}
    _knock(os.environ.get("RAY_ADDRESS", ""))
    try:
        ray.init(
            namespace=settings.name,
            runtime_env={"env_vars": variables},
            logging_level=logging.WARNING,
            log_to_driver=False,
        )
    except ConnectionError as error:
        raise ClusterUnreachable(f"the Ray cluster can't be joined: {error}") from None
    try:
        if _is_open(ray.get_runtime_context().gcs_address):
            if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":  # Ray sets it too
                raise ClusterUnreachable(_IN_VAIN)
            print(_OPEN_CLUSTER, file=sys.stderr, flush=True)
        claim = _claim_name(settings.name)
        yield
        ray.kill(claim)
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise unless something listens where a cluster is said to: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return  # `auto`, or another of Ray's own words
    try:
        socket.create_connection((host, int(port)), timeout=_KNOCK_TIMEOUT_S).close()
    except OSError as error:
        raise ClusterUnreachable(
            f"no Ray cluster answers at {address} ({error.strerror or error}): is it up, and is "
            "RAY_ADDRESS the address of its head, HOST:PORT as `ray start` prints it?"
        ) from None


def _is_open(address: str) -> bool:
    """Whether it is certain that who has no token gets in all the same.

    What this process was told of tokens doesn't tell: a cluster that wants none takes any. And a
    channel of Ray's own would add this process's token and certificates.
    """
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_ANY_CALL)(b"", timeout=_KNOCK_TIMEOUT_S)
        except grpc.RpcError:
            # UNAUTHENTICATED for want of a token, UNAVAILABLE for want of a certificate. After
            # another error it isn't known, and as little is said of the cluster.
            return False
    return True


def serve_runs() -> bool:
    """Whether Ray Serve runs on the cluster already."""
    try:
        _serve_controller()
    except ValueError:
        return False
    return True


def serve_host() -> str:
    """The address that Ray Serve, which must run, listens on."""
    options = ray.get(_serve_controller().get_http_config.remote())
    return str(options.host)


def _serve_controller() -> Any:
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    return ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)


class _Claim:
    """Lives as long as the process that serves, because Ray ends it with its owner."""

    def held(self) -> bool:
        return True


def _claim_name(name: str) -> Any:
    """Claim the service's name on the cluster. Ray takes a moment to notice that the last
    one who had it was killed."""
    deadline = time.monotonic() + _CLAIM_WITHIN_S
    while True:
        try:
            claim: Any = ray.remote(_Claim).options(name=_CLAIM, num_cpus=0).remote()
            ray.get(claim.held.remote())
        except ValueError:
            if time.monotonic() > deadline:
                raise NameTaken(
                    f"a service named {name} is being served on this cluster, which serves one "
                    "at a time: stop that one first"
                ) from None
            time.sleep(_CLAIM_EVERY_S)
        else:
            return claim
