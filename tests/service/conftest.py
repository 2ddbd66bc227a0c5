import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.images import Images
from tests.service.running import Service


@pytest.fixture
def new_service(podman_images: Images) -> Iterator[Callable[..., Service]]:
    """Makes services of a test's own, and stops what still runs after it."""
    made = []
    with tempfile.TemporaryDirectory() as directory:

        def make(name: str = "state", **environment: str) -> Service:
            made.append(Service(Path(directory) / name, podman_images.busybox, **environment))
            return made[-1]

        yield make
        for service in made:
            service.stop()
