import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from httpx._transports import default as _transports
from hypothesis import settings

from tests import images
from tests.postgres import Server
from tests.service.running import Service
from tests.storage.seaweedfs import seaweedfs

# A busy machine is no failure: hypothesis must not judge how long an example takes.
settings.register_profile("raytes", deadline=None)
settings.load_profile("raytes")

# Each client would read all certificates that there are, for a twentieth of a second.
_transports.create_ssl_context = functools.cache(httpx.create_ssl_context)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose tests share a service come last: it needn't run beside all others."""
    sharing = {item.path for item in items if "service" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path in sharing)


@pytest.fixture(scope="session")
def podman_images() -> images.Images:
    """The test images, on a Podman that works; building them tells."""
    built = images.build()
    images.adapt_podman(built)
    return built


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server."""
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def seaweedfs_endpoint() -> Iterator[str]:
    """An S3 server that people run."""
    with tempfile.TemporaryDirectory() as directory, seaweedfs(Path(directory)) as url:
        yield url


@pytest.fixture(scope="session")
def service(
    podman_images: images.Images, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """The service that most tests share."""
    running = Service(tmp_path_factory.mktemp("service") / "state", podman_images.busybox).start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def new_service(podman_images: images.Images) -> Iterator[Callable[..., Service]]:
    """Makes services of a test's own, and stops what still runs after it."""
    made = []
    with tempfile.TemporaryDirectory() as directory:

        def make(name: str = "state", **environment: str) -> Service:
            made.append(Service(Path(directory) / name, podman_images.busybox, **environment))
            return made[-1]

        yield make
        for service in made:
            service.stop()
