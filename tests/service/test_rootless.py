"""The whole way of a task where nobody is root: `raytes serve`, Ray and Podman are a user's own."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.ordinary_user import ordinary_user

# Overlay where the user's home has what it needs, as on a user's machine.
_STORAGE = """
[storage]
driver = "overlay"
"""
_PROGRAM = """
import json, subprocess
from pathlib import Path

import httpx

from tests import images
from tests.service.running import Service

built = images.build()
images.adapt_podman(built)
service = Service(Path.home() / "state", built.busybox, RAYTES_NETWORK="none")
service.start(stderr=subprocess.PIPE)
process = service.process
try:
    task = service.run(
        "sh", "-c", "umask 077; id -u > /o/f; chown 1000 /o/f",
        outputs=[{"path": "/o/f", "url": str(service.files / "f")}],
    )
    health = httpx.get(str(httpx.URL(service.url).copy_with(path="/health"))).json()
    left = service.containers()
finally:
    code = service.stop()
print("RESULT", json.dumps({
    "task": json.loads(task.to_json()), "health": health, "left": left, "code": code,
    "said": process.stderr.read(), "output": (service.files / "f").read_text(),
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="all tests are run as an ordinary user here")
def test_an_ordinary_user_s_service_runs_tasks_and_says_what_it_can_not_enforce() -> None:
    with ordinary_user() as user:
        user.write(".config/containers/storage.conf", _STORAGE)
        ran = user.run(sys.executable, "-c", _PROGRAM, timeout=170)
    found = re.search(r"^RESULT (.*)$", ran.stdout, re.MULTILINE)
    assert found, ran.stdout
    result = json.loads(found[1])
    assert result["task"]["state"] == "COMPLETE", result["task"]
    assert (result["output"], result["left"], result["code"]) == ("0\n", [], 0)
    [node] = result["health"]["nodes"]
    # With cgroup v2 it is as systemd has it; without, a user can limit nothing.
    assert node["shortcomings"] or Path("/sys/fs/cgroup/cgroup.controllers").exists()
    [attempt] = result["task"]["logs"]
    for shortcoming in node["shortcomings"]:
        assert f"WARNING: node {node['name']}: {shortcoming}" in result["said"]
        assert any(shortcoming in line for line in attempt["system_logs"])
