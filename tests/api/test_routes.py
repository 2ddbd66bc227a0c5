"""The routes with the store's part taken over; the whole is tested with a service."""

import asyncio
import threading
from typing import Any

import httpx
import orjson
import pytest
from httpx import ASGITransport, AsyncClient

from raytes.api.app import create_app
from raytes.api.validation import Submission, parse_task
from raytes.config import Settings
from raytes.models import BASE_PATH

DOCUMENT = {"executors": "none", "description": "x" * 70_000}


def test_a_large_document_keeps_no_other_request_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def after_the_other(*arguments: Any, **options: Any) -> Submission:
        assert answered.wait(10), "nothing else was answered while the document was checked"
        return parse_task(*arguments, **options)

    monkeypatch.setattr("raytes.api.routes.parse_task", after_the_other)

    async def both() -> tuple[httpx.Response, httpx.Response]:
        app = create_app(Settings())
        async with AsyncClient(transport=ASGITransport(app), base_url="http://localhost") as client:
            tasks = f"{BASE_PATH}/tasks"
            large = asyncio.create_task(client.post(tasks, content=orjson.dumps(DOCUMENT)))
            await asyncio.sleep(0)  # the large one is sent first
            small = await client.get(f"{tasks}/service-info")
            answered.set()
            return await large, small

    large, small = asyncio.run(both())
    assert small.status_code == 200
    assert large.status_code == 400
    assert [mistake["field"] for mistake in large.json()["errors"]] == ["executors"]
