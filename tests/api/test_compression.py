from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from raytes.api.compression import Compressed


async def text(request: Request) -> Response:
    return PlainTextResponse("a" * int(request.query_params["size"]))


async def stream(_: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"a" * 5_000

    return StreamingResponse(pieces())


@pytest.fixture
def client() -> TestClient:
    return TestClient(Compressed(Starlette(routes=[Route("/text", text), Route("/s", stream)])))


@pytest.mark.parametrize("size", [5_000, 500_000])
def test_a_large_reply_is_compressed(client: TestClient, size: int) -> None:
    reply = client.get(f"/text?size={size}")
    assert reply.text == "a" * size
    assert reply.headers["content-encoding"] == "gzip"
    assert reply.headers["vary"] == "Accept-Encoding"
    assert int(reply.headers["content-length"]) < size / 10


def test_a_small_one_is_not(client: TestClient) -> None:
    reply = client.get("/text?size=500")
    assert reply.text == "a" * 500
    assert not {"content-encoding", "vary"} & set(reply.headers)


@pytest.mark.parametrize("accepted", ["identity", "gzip;q=0", "br, GZIP ; q=0.000", "gzipped"])
def test_it_is_not_for_clients_that_do_not_ask_for_it(client: TestClient, accepted: str) -> None:
    reply = client.get("/text?size=5000", headers={"Accept-Encoding": accepted})
    assert reply.text == "a" * 5_000
    assert "content-encoding" not in reply.headers
    assert reply.headers["vary"] == "Accept-Encoding"  # a cache must not keep it for all


@pytest.mark.parametrize("accepted", ["br;q=1.0, gzip;q=0.5", "deflate,x-gzip", "GZip"])
def test_it_is_for_clients_that_name_it_among_others(client: TestClient, accepted: str) -> None:
    reply = client.get("/text?size=5000", headers={"Accept-Encoding": accepted})
    assert reply.headers["content-encoding"] == "gzip"


def test_the_pieces_of_a_stream_stay_as_they_are(client: TestClient) -> None:
    reply = client.get("/s")
    assert reply.content == b"a" * 15_000
    assert "content-encoding" not in reply.headers
