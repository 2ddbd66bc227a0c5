"""Images from a registry, by policy."""

import base64
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from raytes.attempt import Update
from raytes.errors import ImagePullFailed
from raytes.models import TesState
from raytes.runner.control import Control
from raytes.runner.images import is_lasting, qualified, require_image
from raytes.runner.podman import ContainerRefused, NotFound
from tests.runner.conftest import Attempt, Bench, Registries
from tests.runner.registry import Registry


@pytest.fixture(autouse=True)
def _no_image_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "registries" not in request.fixturenames:
        return
    registries: Registries = request.getfixturevalue("registries")
    pulled = []
    for registry in (registries.open, registries.private):
        registry.faults, registry.fault = 0, Registry.fault
        registry.blobs_wait = None
        pulled += [f"{registry.address}/{':'.join(key.rsplit('/', 1))}" for key in registry.images]
    subprocess.run(["podman", "rmi", "--force", *pulled], capture_output=True)


def run(bench: Bench, image: str, **settings: object) -> Attempt:
    return bench.run({"executors": [{"image": image, "command": ["true"]}]}, **settings)


def test_an_image_is_pulled_and_its_digest_is_in_the_log(
    bench: Bench, registries: Registries
) -> None:
    image = registries.open.add(bench.images.busybox, "lab/busybox", "v1")
    attempt = run(bench, image)
    assert attempt.state is TesState.COMPLETE, attempt.system_logs
    assert f"{image}@sha256:" in (attempt.log.metadata or {})["images"]


def test_a_missing_image_is_pulled_once_and_always_means_each_time(
    bench: Bench, registries: Registries
) -> None:
    image = registries.open.add(bench.images.busybox, "lab/once", "v1")
    run(bench, image)
    served = registries.open.manifests_served
    run(bench, image)
    assert registries.open.manifests_served == served
    run(bench, image, pull_policy="always")
    assert registries.open.manifests_served > served


def test_tasks_that_want_an_image_at_the_same_moment_pull_it_once(
    bench: Bench, registries: Registries
) -> None:
    image = registries.open.add(bench.images.busybox, "lab/together", "v1")
    before = registries.open.manifests_served
    run(bench, image)
    for_one = registries.open.manifests_served - before
    subprocess.run(["podman", "rmi", "--force", image], check=True, capture_output=True)
    attempts: list[Attempt] = []
    threads = [
        threading.Thread(target=lambda: attempts.append(run(bench, image))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [attempt.state for attempt in attempts] == [TesState.COMPLETE] * 4
    assert registries.open.manifests_served - before == 2 * for_one


def test_a_missing_tag_is_said_in_the_registry_s_words(
    bench: Bench, registries: Registries
) -> None:
    registries.open.add(bench.images.busybox, "lab/tagged", "v1")
    image = f"{registries.open.address}/lab/tagged:v2"
    attempt = run(bench, image)
    assert attempt.state is TesState.SYSTEM_ERROR
    assert attempt.failure_reason == "image_pull"
    assert not attempt.last.retry
    assert image in attempt.system_logs
    assert "manifest unknown" in attempt.system_logs
    assert "is tried again" not in attempt.system_logs


_QUOTA = (403, "DENIED", "Quota exceeded for quota metric 'Requests per project per region'")


_BROKEN = (500, "UNKNOWN", "it broke")


@pytest.mark.parametrize(
    "fault", [Registry.fault, _QUOTA, _BROKEN], ids=["busy", "too often", "broken"]
)
def test_a_fault_that_passes_is_no_failure(
    bench: Bench,
    registries: Registries,
    monkeypatch: pytest.MonkeyPatch,
    fault: tuple[int, str, str],
) -> None:
    monkeypatch.setattr("raytes.runner.images._FIRST_DELAY", 0.01)
    image = registries.open.add(bench.images.busybox, "denied/flaky", "unauthorized")
    registries.open.faults, registries.open.fault = 2, fault
    attempt = run(bench, image)
    assert attempt.state is TesState.COMPLETE
    assert attempt.system_logs.count("is tried again") == 2


def test_a_registry_that_denies_access_is_not_asked_again(
    bench: Bench, registries: Registries
) -> None:
    image = registries.open.add(bench.images.busybox, "lab/denied", "v1")
    denied = (403, "DENIED", "requested access to the resource is denied")
    registries.open.faults, registries.open.fault = 1, denied
    attempt = run(bench, image)
    assert attempt.failure_reason == "image_pull"
    assert not attempt.last.retry
    assert "is tried again" not in attempt.system_logs


def test_a_private_registry_is_asked_with_the_node_s_credentials(
    bench: Bench, registries: Registries
) -> None:
    image = registries.private.add(bench.images.busybox, "lab/private", "v1")
    refused = run(bench, image)
    assert refused.failure_reason == "image_pull"
    assert not refused.last.retry
    assert "is tried again" not in refused.system_logs
    credentials = base64.b64encode(registries.private.user.encode()).decode()
    auths = {"auths": {registries.private.address: {"auth": credentials}}}
    registries.auth_file.write_text(json.dumps(auths))
    assert run(bench, image).state is TesState.COMPLETE


def test_a_host_that_stays_unknown_is_asked_for_later_and_later_and_not_by_another_attempt(
    tmp_path: Path,
) -> None:
    engine, said, control = Mock(), Mock(), Control()
    control.stop = Mock(**{"is_set.return_value": False})
    engine.inspect_image.side_effect = NotFound("no such image")
    engine.pull().run.side_effect = ContainerRefused(
        "lookup example.ogr on 10.0.0.2:53: no such host"
    )
    with pytest.raises(ImagePullFailed, match="no such host") as failed:
        require_image(engine, "example.ogr/a:1", "missing", tmp_path, control, said)
    assert not failed.value.transient
    assert [call.args for call in control.stop.wait.mock_calls] == [(1.0,), (2.0,), (4.0,)]
    assert len(said.mock_calls) == 4  # that it is pulled, and that it is tried again


def test_a_pull_can_be_cancelled_between_its_attempts(
    bench: Bench, registries: Registries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raytes.runner.images._FIRST_DELAY", 600.0)
    monkeypatch.setattr("raytes.runner.report._LINES_AFTER", 0.0)
    image = registries.open.add(bench.images.busybox, "lab/slow", "v1")
    registries.open.faults = 1000
    control = Control()

    def said(update: Update) -> None:
        if any("is tried again" in line for line in update.system_logs):
            threading.Thread(target=control.cancel).start()

    task = {"executors": [{"image": image, "command": ["true"]}]}
    assert bench.run(task, control=control, said=said).state is TesState.CANCELED


@pytest.mark.timeout(60)
def test_a_pull_can_be_cancelled_in_the_midst_of_a_blob(
    bench: Bench, registries: Registries
) -> None:
    image = registries.open.add(bench.images.busybox, "lab/large", "v1")
    registries.open.blobs_wait = forever = threading.Event()
    control = Control()
    asked = registries.open.on_blob
    canceller = threading.Thread(target=lambda: asked.wait() and control.cancel())
    canceller.start()
    attempt = bench.run({"executors": [{"image": image, "command": ["true"]}]}, control=control)
    assert attempt.state is TesState.CANCELED
    assert asked.is_set()
    canceller.join()
    forever.set()
    with pytest.raises(NotFound):
        bench.node.podman.engine().inspect_image(image)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("ubuntu", "docker.io/library/ubuntu"),
        ("ubuntu:20.04", "docker.io/library/ubuntu:20.04"),
        ("biocontainers/samtools:1", "docker.io/biocontainers/samtools:1"),
        ("quay.io/a/b", "quay.io/a/b"),
        ("host:5000/a", "host:5000/a"),
        ("localhost/a", "localhost/a"),
    ],
)
def test_a_short_name_is_docker_hub_s(name: str, full: str) -> None:
    assert qualified(name) == full


_READING = "initializing source docker://example.org/a:1: reading manifest 1 in example.org/a: "


@pytest.mark.parametrize(
    "words",
    [
        "manifest unknown",
        "name unknown: Repo not found",
        "requested access to the resource is denied",
        "errors:\ndenied: requested access to the resource is denied\n"
        "unauthorized: authentication required\n",
        "unable to retrieve auth token: invalid username/password: unauthorized: Please login",
        "<html><head><title>404 Not Found</title></head></html>",
        "invalid reference format",
        "repository name must be lowercase",
    ],
)
def test_a_registry_s_refusal_is_there_to_stay(words: str) -> None:
    assert is_lasting(_READING + words)


@pytest.mark.parametrize(
    "words",
    [
        "toomanyrequests: You have reached your unauthenticated pull rate limit. "
        "https://www.docker.com/increase-rate-limit",
        "denied: Quota exceeded for quota metric 'Requests per project per region'",
        "unauthorized: the service is temporarily unavailable",
        "too many requests to registry",
        "received unexpected HTTP status: 503 Service Unavailable",
        'Get "https://example.org/v2/": dial tcp: lookup example.org on 10.0.0.2:53: no such host',
        "dial tcp: lookup example.org: Temporary failure in name resolution",
        "dial tcp: lookup example.org on 10.0.0.2:53: server misbehaving",
    ],
)
def test_a_registry_that_can_not_be_asked_now_may_be_asked_later(words: str) -> None:
    assert not is_lasting(_READING + words)


def reading(name: str, tag: str) -> str:
    return f"initializing source docker://{name}:{tag}: reading manifest {tag} in {name}: "


@pytest.mark.parametrize("name", ["example.org/denied", "example.org/lab/unauthorized.access"])
def test_a_fault_that_passes_does_so_whatever_the_image_is_called(name: str) -> None:
    words = f'Get "https://{name}/manifests/denied": dial tcp: connection refused'
    assert not is_lasting(reading(name, "denied") + words)


def test_a_refusal_is_there_to_stay_whatever_the_image_is_called() -> None:
    assert is_lasting(reading("example.org/unavailable", "toomanyrequests") + "manifest unknown")
