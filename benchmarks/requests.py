"""Requests beside a bare route behind the same ingress, with the same clients."""

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from benchmarks.result import Result, percentile
from benchmarks.service import Service
from raytes.models import TesState

_SECONDS = 2.0
_ROUNDS = 3
_LATENCIES = 1_000


def measure(service: Service, image: str) -> list[Result]:
    """All measures of this module. The tasks that are created wait for one that doesn't end."""
    with service.client as client:
        holder = client.create(_task_of_all_cpus(image, "sleep", "3600"))
        while client.state(holder) is not TesState.RUNNING:
            time.sleep(0.05)
    return asyncio.run(_measure(service, _task_of_all_cpus(image, "true")))


def _task_of_all_cpus(image: str, *command: str) -> dict[str, Any]:
    return {
        "executors": [{"image": image, "command": list(command)}],
        "resources": {"cpu_cores": os.cpu_count(), "ram_gb": 0.128},
    }


async def _measure(service: Service, document: dict[str, Any]) -> list[Result]:
    body = orjson.dumps(document)
    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:

        async def get(url: str) -> None:
            async with session.get(url) as answer:
                await answer.read()
                assert answer.status == 200, await answer.text()

        async def post(url: str) -> bytes:
            async with session.post(url, data=body) as answer:
                assert answer.status == 200, await answer.text()
                return await answer.read()

        tasks = f"{service.url}/tasks"
        task_id = orjson.loads(await post(tasks))["id"]
        results = []
        for clients in (8, 64):
            results.append(
                await _compare(
                    f"durable creates, {clients} clients", 0.35, clients,
                    lambda: post(tasks), lambda: post(service.constant_url),
                )
            )  # fmt: skip
            for view in ("MINIMAL", "FULL"):
                url = f"{tasks}/{task_id}?view={view}"
                results.append(
                    await _compare(
                        f"GET by id, {view}, {clients} clients", 0.8, clients,
                        lambda url=url: get(url), lambda: get(service.constant_url),
                    )
                )  # fmt: skip
        creates, gets = [], []
        for _ in range(_LATENCIES):  # in turn, so that what disturbs the one disturbs the other
            creates.append(await _timed(lambda: post(tasks)))
            gets.append(await _timed(lambda: get(service.constant_url)))
        create, one_get = percentile(creates, 0.99), percentile(gets, 0.99)
    sync = percentile(_fsyncs(service.state_dir, _LATENCIES), 0.99)
    results.append(
        Result(
            "create, 1 client, p99",
            create / (sync + one_get),
            3.0,
            "less",
            f"{create * 1000:.1f} ms",
            f"{(sync + one_get) * 1000:.1f} ms for one fsync and one GET",
        )
    )
    return results


async def _compare(
    name: str,
    must: float,
    clients: int,
    ours: Callable[[], Awaitable[Any]],
    reference: Callable[[], Awaitable[Any]],
) -> Result:
    rates: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(_ROUNDS):
        rates[True].append(await _rate(clients, ours))
        rates[False].append(await _rate(clients, reference))
    mine, bare = sum(rates[True]) / _ROUNDS, sum(rates[False]) / _ROUNDS
    return Result(name, mine / bare, must, "more", f"{mine:.0f}/s", f"{bare:.0f}/s, a constant")


async def _rate(clients: int, request: Callable[[], Awaitable[Any]]) -> float:
    done = 0
    end = time.perf_counter() + _SECONDS

    async def client() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await request()
            done += 1

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return done / (time.perf_counter() - start)


async def _timed(request: Callable[[], Awaitable[Any]]) -> float:
    start = time.perf_counter()
    await request()
    return time.perf_counter() - start


def _fsyncs(directory: Path, count: int) -> list[float]:
    """Seconds for writing one page of that disk, and having it there."""
    seconds = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(count):
            start = time.perf_counter()
            os.pwrite(file.fileno(), os.urandom(4096), 0)
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - start)
    return seconds
