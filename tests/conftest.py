import pytest
from hypothesis import settings

from tests import images

# A busy machine is no failure: hypothesis must not judge how long an example takes.
settings.register_profile("raytes", deadline=None)
settings.load_profile("raytes")


@pytest.fixture(scope="session")
def podman_images() -> images.Images:
    """The test images, on a Podman that works; building them tells."""
    built = images.build()
    images.adapt_podman(built)
    return built
