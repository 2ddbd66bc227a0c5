"""The files of an executor's streams, without a container."""

import errno
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pytest

from raytes.models import TesTask
from raytes.runner.inputs import make_directories
from raytes.runner.mounts import plan_mounts
from raytes.runner.stdio import Streams, open_streams


class Open(Protocol):
    def __call__(self, stdout: str, stderr: str) -> AbstractContextManager[Streams]: ...


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Opens the streams of an executor of which the volume /v is the directory `mounts/0`."""

    def opened(stdout: str, stderr: str) -> AbstractContextManager[Streams]:
        executor = {"image": "i", "command": ["c"], "stdout": stdout, "stderr": stderr}
        task = TesTask.model_validate({"executors": [executor], "volumes": ["/v"]})
        plan = plan_mounts(task, tmp_path, {})
        make_directories(plan)
        (tmp_path / "mounts/0/link").symlink_to("log")
        return open_streams(task.executors[0], plan, plan.binds)

    return opened


@pytest.mark.parametrize("other", ["/v/log", "/v//log", "/v/link"])
def test_a_file_that_is_both_streams_loses_nothing_of_either(
    opened: Open, tmp_path: Path, other: str
) -> None:
    with opened("/v/log", other) as streams:
        assert streams.stdout is not None
        assert streams.stderr is not None
        for number in range(3):
            streams.stdout.write(f"out {number}\n".encode())
            streams.stderr.write(f"err {number}\n".encode())
    lines = [f"{name} {number}" for number in range(3) for name in ("out", "err")]
    assert (tmp_path / "mounts/0/log").read_text().splitlines() == lines


def test_what_the_kernel_refuses_elsewhere_is_not_said_of_a_stream(opened: Open) -> None:
    with pytest.raises(OSError, match="elsewhere"), opened("/v/log", "/v/err"):
        raise OSError(errno.EIO, "elsewhere")
