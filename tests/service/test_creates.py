"""Creates while the store dies between what it commits and what it answers."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from raytes.client import Client
from tests.service.running import Service

SENDERS = 8
KILLS = 4


def test_each_create_is_answered_once_and_stored_once_however_often_the_store_dies(
    service: Service,
) -> None:
    over = threading.Event()

    def send(sender: int) -> dict[str, str]:
        """Create tasks, each under a name of its own, until it is over; their ids by name."""
        answered: dict[str, str] = {}
        # No node has so many: the tasks only wait, and are cancelled for who shares the service.
        resources = {"cpu_cores": 1000}
        with Client(service.url) as client:
            while not over.is_set():
                name = f"task-{sender}-{len(answered)}"
                executors = [service.executor("true")]
                document = {"name": name, "executors": executors, "resources": resources}
                answered[name] = client.create(document)
                client.cancel(answered[name])
        return answered

    with ThreadPoolExecutor(SENDERS) as pool:
        sent = [pool.submit(send, sender) for sender in range(SENDERS)]
        try:
            for _ in range(KILLS):
                time.sleep(1)  # a time in which many are under way, at no particular moment
                service.kill_store()
        finally:
            over.set()
        answered = {name: id for one in sent for name, id in one.result().items()}
    stored = {task.id: task for task in service.client.list(name_prefix="task-", page_size=2000)}
    assert set(stored) == set(answered.values())
    assert len(stored) == len(answered) > SENDERS * KILLS
