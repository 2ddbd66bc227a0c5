"""A service that lets only so many tasks wait."""

import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import orjson

from raytes.models import TesState
from raytes.views import View
from tests.service.running import Service

MOST = 3


def test_beyond_the_most_that_may_wait_a_create_is_429_and_nothing_is_stored(
    new_service: Callable[..., Service],
) -> None:
    service = new_service(RAYTES_MAX_QUEUED=str(MOST)).start()
    everything = {"cpu_cores": len(os.sched_getaffinity(0))}
    running = service.submit("sh", "-c", "echo up; sleep 600", resources=everything)
    service.await_stdout(running, "up")
    body = orjson.dumps({"executors": [service.executor("true")], "resources": everything})

    def create(_: int) -> httpx.Response:
        return service.post(body)

    with ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(create, range(20)))
    assert Counter(answer.status_code for answer in answers) == {200: MOST, 429: 20 - MOST}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) > 0
    assert refused.headers["content-type"] == "application/problem+json"
    assert "nothing was changed" in refused.json()["detail"]
    with service.client as client:
        assert len(list(client.list(view=View.MINIMAL))) == 1 + MOST
    waiting = [answer.json()["id"] for answer in answers if answer.status_code == 200]
    # Each that waits no more makes room for another.
    service.client.cancel(waiting[0])
    service.client.cancel(waiting[0])
    assert [create(0).status_code for _ in range(2)] == [200, 429]
    service.client.cancel(running)
    assert service.finish(waiting[1]).state is TesState.COMPLETE
    assert create(0).status_code == 200
