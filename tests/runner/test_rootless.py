"""All that a runner does, with rootless Podman: its tests, run as an ordinary user."""

import os
import re
import sys
import time

import pytest

from tests.ordinary_user import ordinary_user

_STORAGE = """
[storage]
driver = "overlay"
"""

_CLOSED = "test_limits.py::test_what_a_container_s_user_has_closed_to_others_counts_too"

# Those in which it matters to whom a file belongs.
_OF_OWNERS = "test_sweep or closed or user or never_changed or volume or own_files"

_PODMAN_S_OWN = {"podman", "catatonit -P"}
"""The processes that hold a user's namespace."""

# What rootless Podman can't do on some machines, as the tests that need it say.
_CAN_NOT = (
    "this node can't limit",
    "rootless containers have no network without /dev/net/tun",
    "only root can describe devices",
    "only root can become somebody else",
    "only root can mount",
    "this node has no IPv6",
)


@pytest.mark.skipif(os.geteuid() != 0, reason="all tests are run as an ordinary user here")
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        pytest.param(["test_files.py", "test_sweep.py", _CLOSED], _OF_OWNERS, id="files"),
        pytest.param([""], "", id="all", marks=pytest.mark.slow),
    ],
)
def test_an_ordinary_user_s_tasks_are_run_as_root_s_are(files: list[str], chosen: str) -> None:
    with ordinary_user() as user:
        user.write(".config/containers/storage.conf", _STORAGE)
        tests = [
            "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-m", "not slow",
            f"--basetemp={user.home}/tmp", f"--ignore={__file__}",
            *(f"tests/runner/{file}" for file in files), "-k", chosen,
        ]  # fmt: skip
        ran = user.run(sys.executable, *tests, timeout=380)
        assert ran.returncode == 0, ran.stdout
        deadline = time.monotonic() + 60
        # Who cleans up after the last runner of a node outlives it for a moment.
        while left := set(user.processes().values()) - _PODMAN_S_OWN:
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
    for reason in re.findall(r"^SKIPPED \[\d+\] \S+ (.*)$", ran.stdout, re.MULTILINE):
        assert reason.startswith(_CAN_NOT), reason
