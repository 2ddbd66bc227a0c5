"""The disk under the state directory runs full while tasks are created, run and end."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import orjson
import pytest

from raytes.models import TesState
from tests.service.running import Service
from tests.small_disk import full, mounted


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    with mounted(disk, "24m") as mountable:
        if not mountable:
            pytest.skip("only root can mount a filesystem, and not everywhere")
        yield disk


def test_nothing_answered_is_lost_and_the_service_recovers_by_itself(
    new_service: Callable[..., Service], small_disk: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    service = new_service(
        str(small_disk),
        RAYTES_SCRATCH_DIR=str(tmp_path / "scratch"),
        RAYTES_LOCAL_ROOT=str(results),
    ).start()
    answered: dict[str, int] = {}
    numbers = itertools.count()

    def create(padding: int) -> httpx.Response:
        number = next(numbers)
        task = {
            "executors": [service.executor("sh", "-c", f"sleep 0.5; echo {number} > /out/it")],
            "outputs": [{"path": "/out/it", "url": f"file://{results}/{number}"}],
            "resources": {"ram_gb": 0.128},
            "description": "x" * padding,
        }
        answer = service.post(orjson.dumps(task))
        if answer.status_code == 200:
            answered[answer.json()["id"]] = number
        return answer

    for _ in range(4):
        assert create(0).status_code == 200
    service.await_state(next(iter(answered)), TesState.RUNNING)
    with full(small_disk):
        while (refused := create(100_000)).status_code == 200:
            pass
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert "can't be written: database or disk is full" in refused.json()["detail"]
        # A store that is started while nothing can be written waits for better times.
        service.kill_store()
        for _ in range(2):
            assert create(100_000).status_code == 503
        assert answered.keys() == {task.id for task in service.client.list()}

    deadline = time.monotonic() + 30
    while (again := create(0)).status_code != 200:
        assert again.status_code == 503, again.text
        assert time.monotonic() < deadline
    for task in answered:
        ended = service.finish(task)
        assert ended.state is TesState.COMPLETE
    assert sorted(answered.values()) == sorted(int(path.name) for path in results.iterdir())
    assert len(list(service.client.list())) == len(answered)
    # Ray tells of the store's death too, and not where the service's address is read from.
    assert service.process is not None
    assert service.process.stdout is not None
    told = service.process.stdout
    assert service.stop() == 0
    assert told.read() == ""
