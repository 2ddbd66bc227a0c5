"""Snakemake with its executor plugin for TES: data in S3, Snakemake itself in each task."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients import PROGRAMS
from tests.clients.appliances import appliance
from tests.clients.environments import Environment
from tests.service.running import Service
from tests.storage.object_store import S3Bucket, new_bucket_name
from tests.storage.seaweedfs import KEY, SECRET, seaweedfs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_STORAGE = "snakemake-storage-plugin-s3==0.3.6"
_REQUIREMENTS = ("snakemake==9.27.1", "snakemake-executor-plugin-tes==0.1.3", _STORAGE, "six")


@dataclass(frozen=True)
class Snakemake:
    """Snakemake in a directory with its workflows, and a bucket for what they make."""

    environment: Environment
    image: str
    directory: Path
    bucket: S3Bucket
    tes: str

    def run(self, workflow: str) -> subprocess.CompletedProcess[str]:
        command = [
            self.environment.program("snakemake"),
            *("--snakefile", workflow),
            *("--executor", "tes", "--tes-url", self.tes, "--container-image", self.image),
            *("--default-storage-provider", "s3", "--default-storage-prefix", self.bucket.url),
            *("--storage-s3-endpoint-url", str(self.bucket.options["endpoint_url"])),
            *("--jobs", "2", "--seconds-between-status-checks", "1"),
        ]
        # After a failed task the plugin reads `funnel.log` there, and dies without it.
        (self.directory / "funnel.log").touch()
        variables = {
            "SNAKEMAKE_STORAGE_S3_ACCESS_KEY": KEY,
            "SNAKEMAKE_STORAGE_S3_SECRET_KEY": SECRET,
            "GITHUB_WORKSPACE": str(self.directory),
        }
        return subprocess.run(
            command,
            cwd=self.directory,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Bucket]:
    directory = tmp_path_factory.mktemp("seaweedfs")
    with seaweedfs(directory) as endpoint:
        yield S3Bucket(endpoint, new_bucket_name(), key=KEY, secret=SECRET)
    shutil.rmtree(directory)


@pytest.fixture
def snakemake(
    install: Callable[..., Environment], bucket: S3Bucket, engine_service: Service, tmp_path: Path
) -> Snakemake:
    environment = install("snakemake", *_REQUIREMENTS)
    image = appliance(environment, _STORAGE)
    shutil.copytree(PROGRAMS / "snakemake", tmp_path, dirs_exist_ok=True)
    tes = engine_service.url.removesuffix("/v1")
    return Snakemake(environment, image, tmp_path, bucket, tes)


def test_a_workflow_runs_to_its_end(snakemake: Snakemake) -> None:
    done = snakemake.run("Snakefile")
    assert done.returncode == 0, done.stdout
    assert snakemake.bucket.get("second.txt") == b"one\ntwo\n"


def test_a_failing_step_fails_the_workflow_and_its_log_is_kept(snakemake: Snakemake) -> None:
    done = snakemake.run("failing.smk")
    assert done.returncode != 0
    assert "Error in rule fail" in done.stdout
    assert snakemake.bucket.get("fail.log") == b"in vain\n"
