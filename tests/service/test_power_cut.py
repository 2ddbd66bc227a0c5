"""The whole cluster that a service has joined dies at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from raytes.models import TesState
from tests.images import Images
from tests.service.ray_cluster import RayCluster


@pytest.fixture
def cluster(podman_images: Images) -> Iterator[RayCluster]:
    cluster = RayCluster(cpus=1)
    yield cluster
    cluster.stop()


@pytest.mark.slow
def test_after_a_power_cut_all_tasks_go_on_from_the_state_directory(
    cluster: RayCluster, podman_images: Images, tmp_path: Path
) -> None:
    cluster.add_node(cpus=1)
    environment = {"RAYTES_MAX_RETRIES": "0"}  # a power cut uses up none
    service = cluster.service(tmp_path, podman_images.busybox, **environment).start()
    try:
        ended = service.run("echo", "once")
        ran = [service.submit_waiting() for _ in cluster.nodes]
        queued = service.submit("true")
        cluster.cut_power(service)
        service.let_go()
        service.start()
        assert [service.finish(task_id).state for task_id in ran] == [TesState.COMPLETE] * 2
        assert service.finish(queued).state is TesState.COMPLETE
        attempts = [len(service.client.get(task_id).logs or []) for task_id in (*ran, queued)]
        assert attempts == [2, 2, 1]
        assert service.finish(ended.id or "") == ended
        assert len(list(service.client.list())) == 4
        assert service.containers() == []
        assert service.stop() == 0
    finally:
        service.stop()
