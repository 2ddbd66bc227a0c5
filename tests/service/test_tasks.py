"""Tasks through the REST API of a running service, end to end."""

import hashlib
import os
import subprocess
from typing import Any

import httpx
import orjson
import pytest

from raytes.models import TesState
from raytes.views import View
from tests.images import Images
from tests.service.running import Service, containers


def test_hello_world(service: Service) -> None:
    task = service.run("echo", "hello world")
    assert task.state is TesState.COMPLETE
    [log] = task.logs or []
    [executor] = log.logs
    assert (executor.exit_code, executor.stdout, executor.stderr) == (0, "hello world\n", "")


@pytest.mark.parametrize(("command", "code"), [(("sh", "-c", "exit 42"), 42), (("nothere",), 127)])
def test_a_command_that_fails_is_an_executor_error(
    service: Service, command: tuple[str, ...], code: int
) -> None:
    task = service.run(*command)
    assert task.state is TesState.EXECUTOR_ERROR
    assert [executor.exit_code for executor in (task.logs or [])[0].logs] == [code]


def test_tasks_have_what_their_documents_ask_for(service: Service, podman_images: Images) -> None:
    """Each with its exit codes and its `failure_reason`; all of them at once."""

    def sh(script: str, **fields: bool) -> dict[str, Any]:
        return service.executor("sh", "-c", script, **fields)

    url = f"file://{service.files}/asked"
    memory = [sh("dd if=/dev/zero of=/dev/null bs=99M")]
    disk = [sh("dd if=/dev/zero of=/v/f bs=1M count=30; sleep 600")]
    fussy = [{"image": podman_images.fussy, "command": ["/bin/echo"]}]  # its ENTRYPOINT fails
    files = sh("mkdir -p /w/x/y; touch /w/x/a.txt /w/x/b.log /w/x/y/c.txt")
    ignored = [sh("exit 3", ignore_error=True), sh("true"), files]
    wildcard = {"path": "/w/*/?.txt", "path_prefix": "/w", "url": url}
    expected: list[tuple[dict[str, Any], list[int], str | None]] = [
        (asking(memory, ram_gb=0.05), [137], "out_of_memory"),
        (asking(disk, disk_gb=0.02) | {"volumes": ["/v"]}, [137], "disk_full"),
        (asking([sh("sleep 600")], backend_parameters={"max_runtime": "3"}), [137], "timeout"),
        (asking(fussy, backend_parameters={"entrypoint": "image"}), [1], "executor_error"),
        (asking(ignored) | {"outputs": [wildcard]}, [3, 0, 0], None),
    ]
    task_ids = [service.client.create(document) for document, _, _ in expected]
    tasks = [service.finish(task_id) for task_id in task_ids]
    for task, (document, codes, reason) in zip(tasks, expected, strict=True):
        [log] = task.logs or []
        assert [executor.exit_code for executor in log.logs] == codes, document
        assert (log.metadata or {}).get("failure_reason") == reason, document
        state = TesState.EXECUTOR_ERROR if reason else TesState.COMPLETE
        assert task.state is state, document
    [output] = (tasks[-1].logs or [])[0].outputs
    assert (output.path, output.url) == ("/w/x/a.txt", f"{url}/x/a.txt")
    assert (service.files / "asked/x/a.txt").is_file()


def asking(executors: list[dict[str, Any]], **resources: Any) -> dict[str, Any]:
    return {"executors": executors, "resources": resources}


def test_an_image_that_is_not_there_is_a_system_error_that_names_it(service: Service) -> None:
    image = "localhost/raytes-no-such-image:1.0"
    task = service.run_task(executors=[{"image": image, "command": ["true"]}])
    assert task.state is TesState.SYSTEM_ERROR
    log = (task.logs or [])[-1]
    assert (log.metadata or {})["failure_reason"] == "image_pull"
    assert any(image in line for line in log.system_logs or [])


def test_a_large_input_is_streamed_to_stdin(service: Service) -> None:
    content = bytes(range(256)) * 4096 * 100
    (service.files / "large").write_bytes(content)
    task = service.run_task(
        inputs=[{"url": f"file://{service.files}/large", "path": "/data/large"}],
        executors=[service.executor("md5sum", stdin="/data/large")],
    )
    [executor] = (task.logs or [])[0].logs
    assert executor.stdout == f"{hashlib.md5(content).hexdigest()}  -\n"


def test_an_output_has_the_right_bytes_and_is_recorded(service: Service) -> None:
    url = f"file://{service.files}/results/out.bin"
    task = service.run(
        "sh",
        "-c",
        "printf 'a\\0b\\377' > /out/out.bin",
        outputs=[{"url": url, "path": "/out/out.bin"}],
    )
    assert task.state is TesState.COMPLETE
    assert (service.files / "results/out.bin").read_bytes() == b"a\0b\xff"
    [output] = (task.logs or [])[0].outputs
    assert (output.url, output.path, output.size_bytes) == (url, "/out/out.bin", "4")


def test_three_executors_share_a_volume(service: Service) -> None:
    task = service.run_task(
        volumes=["/shared"],
        executors=[
            service.executor("sh", "-c", "echo one > /shared/a"),
            service.executor("sh", "-c", "echo two >> /shared/a"),
            service.executor("cat", "/shared/a"),
        ],
    )
    executors = (task.logs or [])[0].logs
    assert [executor.exit_code for executor in executors] == [0, 0, 0]
    assert executors[2].stdout == "one\ntwo\n"


def test_logs_are_there_while_the_command_runs(service: Service) -> None:
    (service.files / "gate").mkdir()
    task_id = service.submit(
        "sh",
        "-c",
        "echo first; until [ -e /gate/open ]; do sleep 0.1; done; echo second",
        inputs=[{"url": f"file://{service.files}/gate", "path": "/gate", "type": "DIRECTORY"}],
    )
    seen = service.await_stdout(task_id, "first\n")
    assert seen.state is TesState.RUNNING
    assert (seen.logs or [])[0].logs[0].exit_code == -1
    (service.files / "gate/open").touch()
    task = service.finish(task_id)
    assert task.state is TesState.COMPLETE
    assert (task.logs or [])[0].logs[0].stdout == "first\nsecond\n"


def test_a_cancelled_task_is_gone_when_cancel_answers(service: Service) -> None:
    task_id = service.submit("sh", "-c", "trap '' TERM; echo up; sleep 600")
    service.await_stdout(task_id, "up")
    service.client.cancel(task_id)
    task = service.client.get(task_id, View.FULL)
    assert task.state is TesState.CANCELED
    assert containers(f"raytes.task={task_id}") == []
    service.client.cancel(task_id)
    assert service.client.get(task_id).state is TesState.CANCELED


def test_what_does_not_fit_waits_and_each_container_has_its_limits(service: Service) -> None:
    asked = {"cpu_cores": 1, "ram_gb": 0.25}
    cpus = len(os.sched_getaffinity(0))
    ids = [
        service.submit("sh", "-c", "echo up; sleep 600", resources=asked) for _ in range(cpus + 1)
    ]
    for task_id in ids[:cpus]:
        service.await_stdout(task_id, "up")
    assert service.client.get(ids[-1]).state is TesState.QUEUED
    for task_id in ids[:cpus]:
        [container] = containers(f"raytes.task={task_id}")
        assert limits(container) == [250_000_000, 250_000_000, 1.0]
    service.client.cancel(ids[0])
    service.await_stdout(ids[-1], "up")
    for task_id in ids[1:]:
        service.client.cancel(task_id)
    assert {service.client.get(task_id).state for task_id in ids} == {TesState.CANCELED}


def limits(container: str) -> list[float]:
    """Memory with and without swap in bytes, and CPUs."""
    inspected = subprocess.run(
        ["podman", "inspect", container], capture_output=True, check=True
    ).stdout
    host = orjson.loads(inspected)[0]["HostConfig"]
    return [host["Memory"], host["MemorySwap"], host["CpuQuota"] / host["CpuPeriod"]]


def test_what_no_node_can_hold_fails_with_what_there_is(service: Service) -> None:
    task = service.run("true", resources={"cpu_cores": 1000})
    assert task.state is TesState.SYSTEM_ERROR
    [log] = task.logs or []
    assert (log.metadata or {})["failure_reason"] == "infeasible"
    assert "1000 CPUs" in (log.system_logs or [""])[0]


BAD = {
    "executors": b"{}",
    "inputs[0].path": b'{"executors":[{"image":"i","command":["c"]}],'
    b'"inputs":[{"path":"relative","content":"x"}]}',
    "executors[0].image": b'{"executors":[{"image":5,"command":["c"]}]}',
    "inputs[0].url": b'{"executors":[{"image":"i","command":["c"]}],'
    b'"inputs":[{"path":"/a","url":"file:///etc/passwd"}]}',
    "": b'{"executors": [',
}


@pytest.mark.parametrize("field", BAD)
def test_a_bad_document_is_refused_with_its_field_and_not_stored(
    service: Service, field: str
) -> None:
    before = newest(service)
    answer = service.post(BAD[field])
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert newest(service) == before


def newest(service: Service) -> list[dict[str, str]]:
    tasks: list[dict[str, str]] = httpx.get(f"{service.url}/tasks?page_size=1").json()["tasks"]
    return tasks


def test_a_task_that_is_not_there_is_404(service: Service) -> None:
    for answer in (
        httpx.get(f"{service.url}/tasks/nothing"),
        httpx.post(f"{service.url}/tasks/nothing:cancel"),
    ):
        assert answer.status_code == 404
        assert answer.json()["status"] == 404


def test_create_answers_with_the_id_and_nothing_else(service: Service) -> None:
    answer = service.post(orjson.dumps({"executors": [service.executor("true")]}))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["id"]


def test_service_info_says_what_is_enabled(service: Service) -> None:
    info = service.client.service_info()
    assert (info.type.group, info.type.artifact, info.type.version) == (
        "org.ga4gh",
        "tes",
        "1.1.0",
    )
    assert f"file://{service.files}" in (info.storage or [])
