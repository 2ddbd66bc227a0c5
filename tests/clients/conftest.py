import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients import environments
from tests.clients.environments import CannotInstall, Environment
from tests.images import Images
from tests.service.running import Service

# Toil's tasks write to its job store; Snakemake's reach their object store from inside.
_SETTINGS = """
network = "host"

[[local_root]]
path = "{root}"
rw = true
"""


@pytest.fixture(scope="session")
def engine_service(podman_images: Images) -> Iterator[Service]:
    """A service for workflow engines, whose one local root tasks may write to."""
    # Not in /tmp: cwl-tes is run with one of its own.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        root, config = Path(directory) / "state" / "files", Path(directory) / "raytes.toml"
        config.write_text(_SETTINGS.format(root=root))
        state = Path(directory) / "state"
        service = Service(state, podman_images.busybox, RAYTES_CONFIG=str(config)).start()
        yield service
        assert service.stop() == 0


@pytest.fixture
def install() -> Callable[..., Environment]:
    """Installs a client; the test is skipped where that can't be done."""

    def installed(name: str, *requirements: str, python: str | None = None) -> Environment:
        try:
            chosen = {"python": environments.python(python)} if python else {}
            return environments.environment(name, *requirements, **chosen)
        except CannotInstall as why:
            pytest.skip(f"{name} can't be installed: {why}")

    return installed
