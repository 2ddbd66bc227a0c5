"""cwl-tes: CWL workflows whose tools run as TES tasks, on files that the service can reach."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients import PROGRAMS
from tests.clients.environments import Environment
from tests.service.running import Service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# After each task cwl-tes removes the directories that the *container* calls /tmp and /var/lib/cwl,
# on the machine that it runs on itself. `--leave-tmpdir` spares the first; the second it always
# removes. So it never sees the machine's own: without a namespace it isn't run at all.
# $1 is the directory of the programs that it consists of, which may lie below /tmp themselves.
_APART = """
mount --bind "$1" /mnt
mount -t tmpfs tmpfs /tmp
[ ! -e /var/lib/cwl ] || mount -t tmpfs tmpfs /var/lib/cwl
if [ ! -e "$1" ]; then
    mkdir -p "$1"
    mount --bind /mnt "$1"
    mount -o remount,bind,ro "$1"
fi
shift
exec "$@"
"""


def apart(programs: Path, *command: str) -> list[str]:
    """A command that runs another where it doesn't see the machine's own /tmp."""
    namespace = ("unshare", "--map-root-user", "--mount", "sh", "-euc", _APART, "sh")
    return [*namespace, str(programs), *command]


@dataclass(frozen=True)
class CwlTes:
    """cwl-tes in a directory with its workflows, beneath a local root of the service."""

    environment: Environment
    directory: Path
    service: Service

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = apart(
            self.environment.directory,
            self.environment.program("cwl-tes"),
            *("--tes", self.service.url.removesuffix("/ga4gh/tes/v1")),
            *("--default-container", self.service.image),
            "--leave-tmpdir",
            # Where the service may read and write: what goes from step to step.
            *("--remote-storage-url", str(self.directory / "steps")),
            *("--outdir", str(self.directory / "results")),
            *arguments,
        )
        return subprocess.run(
            command, cwd=self.directory, capture_output=True, text=True, timeout=300
        )


@pytest.fixture
def cwl_tes(install: Callable[..., Environment], engine_service: Service) -> CwlTes:
    # Its cwltool, of 2019, runs on no later Python.
    environment = install("cwl-tes", "cwl-tes==0.3.0", python="3.8")
    if subprocess.run(apart(environment.directory, "true"), capture_output=True).returncode:
        pytest.skip("cwl-tes removes /tmp, and can't be given one of its own here")
    directory = engine_service.files / "cwl"
    shutil.copytree(PROGRAMS / "cwl", directory, dirs_exist_ok=True)
    return CwlTes(environment, directory, engine_service)


def test_a_workflow_runs_to_its_end(cwl_tes: CwlTes) -> None:
    done = cwl_tes.run("workflow.cwl", "--word", "one")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["result"]
    assert Path(result["path"]).read_bytes() == b"one\none\n"
    assert result["size"] == 8


def test_a_failing_tool_fails_the_run_with_its_log(cwl_tes: CwlTes) -> None:
    done = cwl_tes.run("failing.cwl")
    assert done.returncode != 0
    assert "EXECUTOR_ERROR" in done.stderr
    assert "in vain" in done.stderr
    assert "exit_code=3" in done.stderr
