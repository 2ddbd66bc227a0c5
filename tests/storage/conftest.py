"""Real stores for the tests: moto for S3, fake-gcs-server for GCS."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raytes.config import LocalRoot, Settings
from raytes.storage import Storage

from .object_store import AzureContainer, Bucket, GcsBucket, S3Bucket, new_bucket_name
from .servers import AZURITE, azurite, fake_gcs, moto


@pytest.fixture(autouse=True)
def _no_credentials_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The one local root of `storage`, and the place of a test's own files."""
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def make_storage(tmp_path: Path, root: Path) -> Callable[..., Storage]:
    """A Storage with one local root and whatever else a test sets."""

    def make(**settings: Any) -> Storage:
        settings.setdefault("local_root", [LocalRoot(path=root)])
        return Storage(Settings(state_dir=tmp_path / "state", **settings))

    return make


@pytest.fixture
def never() -> threading.Event:
    """A `stop` that nobody sets."""
    return threading.Event()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with moto() as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_endpoint: str) -> S3Bucket:
    return S3Bucket(s3_endpoint, new_bucket_name())


@pytest.fixture(scope="session")
def gcs_endpoint() -> Iterator[str]:
    with fake_gcs() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def azure_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with azurite(tmp_path_factory.mktemp("azurite")) as endpoint:
        yield endpoint


@pytest.fixture(params=["s3", "gs", *(["abfs"] if AZURITE else [])])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """An empty bucket in each kind of object store in turn."""
    kinds = {"s3": ("s3", S3Bucket), "gs": ("gcs", GcsBucket), "abfs": ("azure", AzureContainer)}
    name, kind = kinds[request.param]
    made: Bucket = kind(request.getfixturevalue(f"{name}_endpoint"), new_bucket_name())
    return made
