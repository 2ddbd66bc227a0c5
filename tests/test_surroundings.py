"""What raytes lays around Ray."""

import fcntl
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from raytes import surroundings
from raytes.config import Settings
from raytes.state import StateUnusable
from tests.scripts import write_script

_PARENT = """
import subprocess, sys
print(subprocess.Popen([sys.argv[1], "-f", "haproxy.cfg"]).pid, flush=True)
sys.stdin.read()
"""


def test_an_haproxy_does_not_outlive_who_started_it_even_when_that_dies_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, released = tmp_path / "ran", tmp_path / "released"
    os.mkfifo(released)
    write_script(tmp_path / "haproxy-itself", f"touch {ran}")
    # The wrapper's first step, which here lasts until the parent is dead.
    write_script(tmp_path / "sed", f"cat {released}")
    monkeypatch.setattr(
        surroundings, "get_haproxy_binary", lambda: str(tmp_path / "haproxy-itself")
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    wrapper = surroundings._own_haproxy(tmp_path)

    for dies in (False, True):
        ran.unlink(missing_ok=True)
        parent = subprocess.Popen(
            [sys.executable, "-c", _PARENT, wrapper], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert parent.stdout
        wrapped = os.pidfd_open(int(parent.stdout.readline()))
        with released.open("w"):  # the wrapper is there
            if dies:
                parent.kill()
                parent.wait()
        assert select.select([wrapped], [], [], 30)[0]  # it has ended
        os.close(wrapped)
        assert ran.exists() is not dies
        parent.communicate()


def test_an_haproxy_that_reaches_no_replica_answers_that_it_is_to_be_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE

    monkeypatch.setattr(surroundings, "get_haproxy_binary", lambda: "true")
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(HAPROXY_CONFIG_TEMPLATE)
    subprocess.run([surroundings._own_haproxy(tmp_path), "-f", configuration], check=True)
    lines = list(map(str.strip, configuration.read_text().splitlines()))
    backend = lines.index("backend default_backend")
    assert lines[backend + 1].endswith("if !{ path_beg / }")
    assert lines[backend + 2] == f"http-request return status 503 errorfile {tmp_path}/503.http"
    assert f"errorfile 503 {tmp_path}/503.http" in lines
    assert "log global" not in lines


def test_what_stands_in_the_place_of_the_runtime_directory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = tmp_path / "taken"
    taken.touch()  # as of another user: it can't be removed
    monkeypatch.setattr(surroundings, "runtime_path", lambda _: taken)
    with (
        pytest.raises(StateUnusable, match=str(taken)),
        surroundings.runtime_directory(Settings(state_dir=tmp_path)),
    ):
        pytest.fail("it can't be made")


def test_the_runtime_directory_is_locked_so_that_it_is_not_removed_for_its_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings, "runtime_path", lambda _: tmp_path / "run")
    with surroundings.runtime_directory(Settings(state_dir=tmp_path)) as directory:
        cleaner = os.open(directory, os.O_RDONLY)
        with pytest.raises(BlockingIOError):  # as systemd-tmpfiles asks
            fcntl.flock(cleaner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(cleaner)
    assert not directory.exists()


def test_ray_serve_takes_what_it_is_told_of_its_proxy(tmp_path: Path) -> None:
    script = (
        "from ray.serve._private import constants\n"
        "print(constants.PROXY_HEALTH_CHECK_PERIOD_S, constants.PROXY_READY_CHECK_TIMEOUT_S)\n"
        "print(constants.RAY_SERVE_HAPROXY_METRICS_ENABLED)\n"
        "print(constants.RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH)\n"
    )
    everywhere = surroundings.serve_variables(tmp_path)
    own = surroundings.own_ray_variables(tmp_path / "token", tmp_path)
    # On a cluster that is joined requests are counted, and go Serve's way, as it has it.
    for variables, counted, way in (
        (everywhere, True, None),
        ({**everywhere, **own}, False, "raytes.api.direct:middlewares"),
    ):
        told = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout == f"1.0 60.0\n{counted}\n{way}\n"
