"""Toil with its batch system for TES: its workers run as tasks, on a job store that they share."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients import PROGRAMS
from tests.clients.appliances import appliance
from tests.clients.environments import Environment
from tests.service.running import Service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# py-tes 0.4 forgets to say that it needs six.
_REQUIREMENTS = ("toil-batch-system-tes==2.0.0", "toil==7.0.0", "six")
# An image with Toil's commit in its name is one that Toil doesn't look for in a registry.
_COMMIT = "from toil.version import currentCommit; print(currentCommit)"


@dataclass(frozen=True)
class Toil:
    """Toil with a job store beneath a local root of the service that tasks may write to."""

    environment: Environment
    image: str
    directory: Path
    service: Service

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            *(self.environment.program("python"), str(PROGRAMS / "toil_steps.py")),
            str(self.directory / "jobstore"),
            *("--batchSystem", "tes", "--tesEndpoint", self.service.url.removesuffix("/v1")),
            *("--workDir", str(self.directory), "--retryCount", "0"),
            *arguments,
        ]
        return subprocess.run(
            command,
            env={**os.environ, "TOIL_APPLIANCE_SELF": self.image},
            capture_output=True,
            text=True,
            timeout=300,
        )


@pytest.fixture
def toil(install: Callable[..., Environment], engine_service: Service, tmp_path: Path) -> Toil:
    environment = install("toil", *_REQUIREMENTS)
    commit = subprocess.check_output([environment.program("python"), "-c", _COMMIT], text=True)
    image = appliance(environment, tag=commit.strip())
    directory = engine_service.files / tmp_path.name
    directory.mkdir()
    return Toil(environment, image, directory, engine_service)


def test_a_workflow_runs_to_its_end(toil: Toil) -> None:
    done = toil.run(str(toil.directory / "result"))
    assert done.returncode == 0, done.stderr
    assert (toil.directory / "result").read_bytes() == b"one\ntwo\n"


def test_a_failing_step_fails_the_workflow_with_its_log(toil: Toil) -> None:
    done = toil.run(str(toil.directory / "result"), "--fail")
    assert done.returncode != 0
    assert "RuntimeError: in vain" in done.stderr
