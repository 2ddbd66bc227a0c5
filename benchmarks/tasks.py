"""Tasks beside bare containers: throughput, latency, CPU, cancel and logs."""

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.result import Result, median, percentile
from benchmarks.service import Service, cpu_seconds, processes_of
from raytes.models import TesState
from raytes.views import View

_LIMITS = ["--network=none", "--cpus=1", "--memory=128000000", "--memory-swap=128000000"]
_RESOURCES = {"cpu_cores": 1, "ram_gb": 0.128}
_PARALLEL = (2, 3, 4, 6)
_ROUNDS = 2


def measure(service: Service, image: str, *, tasks: int) -> list[Result]:
    """All measures of this module; `tasks` is how many are drained."""
    _run(service, _true(image))  # a warm runner, the image in the page cache
    bare_one, one = [], []
    for _ in range(15):
        bare_one.append(_timed(lambda: _podman(image, "true")))
        one.append(_timed(lambda: _run(service, _true(image))))
    extra = median(one) - median(bare_one)
    return [
        *_drained(service, image, tasks),
        _mixed_shapes(service, image, tasks),
        Result(
            "one task, POST to COMPLETE, warm",
            median(one) / median(bare_one),
            (median(bare_one) + 0.06) / median(bare_one),
            "less",
            f"{median(one) * 1000:.0f} ms ({extra * 1000:+.0f})",
            f"{median(bare_one) * 1000:.0f} ms",
        ),
        _cancelled(service, image),
        _first_line(service, image),
    ]


def _drained(service: Service, image: str, tasks: int) -> list[Result]:
    tried = {parallel: _bare(image, tasks // 2, parallel) for parallel in _PARALLEL}
    best = max(tried, key=lambda parallel: tried[parallel])
    bare, ours, bare_cpu, ours_cpu = [], [], 0.0, 0.0
    for _ in range(_ROUNDS):
        before = _machine_cpu()
        bare.append(_bare(image, tasks, best))
        # Of the machine, since conmon, the runtime and Podman's cleanup are no children of anybody.
        bare_cpu += _machine_cpu() - before
        before = cpu_seconds(processes_of(service))
        ours.append(_drain(service, [_true(image)] * tasks))
        ours_cpu += cpu_seconds(processes_of(service)) - before
    each = 1000 / (_ROUNDS * tasks)
    return [
        Result(
            f"{tasks} tasks of `true`, drained",
            mean(ours) / mean(bare),
            1.0,
            "more",
            f"{mean(ours):.1f}/s",
            f"{mean(bare):.1f}/s with {best} at once",
        ),
        Result(
            "control plane's CPU for a task",
            ours_cpu / bare_cpu,
            0.5,
            "less",
            f"{ours_cpu * each:.0f} ms",
            f"{bare_cpu * each:.0f} ms of `podman run` itself",
        ),
    ]


def _mixed_shapes(service: Service, image: str, tasks: int) -> Result:
    shapes = [
        {"cpu_cores": cpus, "ram_gb": ram_gb}
        for cpus in (1, min(2, os.cpu_count() or 1))
        for ram_gb in (0.128, 0.25, 0.5, 1)
    ]
    one, mixed = [], []
    for _ in range(_ROUNDS):
        one.append(_drain(service, [_true(image)] * tasks))
        mixed.append(_drain(service, [_true(image, shapes[i % len(shapes)]) for i in range(tasks)]))
    return Result(
        f"{tasks} tasks in 8 shapes, half of them of 2 CPUs",
        mean(mixed) / mean(one),
        0.6,
        "more",
        f"{mean(mixed):.1f}/s",
        f"{mean(one):.1f}/s in one shape",
    )


def _cancelled(service: Service, image: str) -> Result:
    seconds = []
    with service.client as client:
        for _ in range(20):
            task_id = client.create(_task(image, "sh", "-c", "echo up; sleep 600"))
            _await_text(service, task_id, "up")
            seconds.append(_timed(lambda task_id=task_id: _cancel(service, task_id)))
    return Result(
        "cancel to container gone, p95 (s)",
        percentile(seconds, 0.95),
        1.0,
        "less",
        f"{percentile(seconds, 0.95) * 1000:.0f} ms",
    )


def _cancel(service: Service, task_id: str) -> None:
    with service.client as client:
        client.cancel(task_id)
    label = f"label=raytes.task={task_id}"
    left = subprocess.run(
        ["podman", "ps", "--all", "--quiet", "--filter", label], capture_output=True
    )
    assert not left.stdout, "the container was still there when cancel answered"


def _first_line(service: Service, image: str) -> Result:
    seconds = []
    with service.client as client:
        for _ in range(20):
            task_id = client.create(
                _task(image, "sh", "-c", "sleep 0.5; cat /proc/uptime; sleep 600")
            )
            text = _await_text(service, task_id, ".")
            seen = float(Path("/proc/uptime").read_text().split()[0])
            seconds.append(seen - float(text.split()[0]))
            client.cancel(task_id)
    return Result(
        "first log line to visible in FULL, p95 (s)",
        percentile(seconds, 0.95),
        1.5,
        "less",
        f"{percentile(seconds, 0.95) * 1000:.0f} ms",
    )


def _await_text(service: Service, task_id: str, text: str) -> str:
    with service.client as client:
        while True:
            task = client.get(task_id, View.FULL)
            executors = task.logs[-1].logs if task.logs else []
            if executors and text in (stdout := executors[0].stdout or ""):
                return stdout
            assert task.state in (TesState.QUEUED, TesState.INITIALIZING, TesState.RUNNING)
            time.sleep(0.005)


def _drain(service: Service, documents: list[dict[str, Any]]) -> float:
    """Tasks a second, from the first POST to the last end."""
    with service.client as client:
        start = time.perf_counter()
        ids = [client.create(document) for document in documents]
        for task_id in ids:
            while client.state(task_id) is not TesState.COMPLETE:
                time.sleep(0.02)
        return len(documents) / (time.perf_counter() - start)


def _run(service: Service, document: dict[str, Any]) -> None:
    with service.client as client:
        task_id = client.create(document)
        while client.state(task_id) is not TesState.COMPLETE:
            time.sleep(0.002)


def _bare(image: str, count: int, parallel: int) -> float:
    """Containers a second."""
    start = time.perf_counter()
    with ThreadPoolExecutor(parallel) as pool:
        list(pool.map(lambda _: _podman(image, "true"), range(count)))
    return count / (time.perf_counter() - start)


def _podman(image: str, *command: str) -> None:
    subprocess.run(["podman", "run", "--rm", *_LIMITS, image, *command], check=True)


def _true(image: str, resources: dict[str, float] = _RESOURCES) -> dict[str, Any]:
    return _task(image, "true", resources=resources)


def _task(image: str, *command: str, resources: dict[str, float] = _RESOURCES) -> dict[str, Any]:
    return {"executors": [{"image": image, "command": list(command)}], "resources": resources}


def _timed(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _machine_cpu() -> float:
    """CPU seconds that the machine has been busy for."""
    line = Path("/proc/stat").read_text().split("\n", 1)[0]
    user, nice, system, _idle, _wait, *interrupts = map(int, line.split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
