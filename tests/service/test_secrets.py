"""The secrets of the stores, which nobody who uses the service or reads its logs may see."""

from collections.abc import Callable
from pathlib import Path

import pytest

from raytes.models import TesState
from raytes.surroundings import runtime_path
from tests.service.running import Service
from tests.storage.faulty_proxy import faulty_proxy
from tests.storage.file_servers import ftp_server

pytestmark = pytest.mark.slow

MARK = "no-one-may-see-this"


def test_a_transfer_that_fails_shows_no_secret_anywhere(
    new_service: Callable[..., Service], tmp_path: Path
) -> None:
    root = tmp_path / "served"
    root.mkdir()
    with faulty_proxy() as proxy, ftp_server(root) as ftp:
        proxy.faults.extend([403] * 100)
        config = tmp_path / "raytes.toml"
        config.write_text(
            f"""
            schemes = ["file", "s3", "http", "ftp", "abfs"]
            [storage."{proxy.url}"]
            headers = {{ Authorization = "Bearer {MARK}" }}
            [storage."{proxy.url}/login"]
            auth = ["user", {{ env = "LAB_SECRET" }}]
            [storage."s3://lab"]
            endpoint_url = "{proxy.url}"
            key = "{MARK}"
            secret = {{ file = "{tmp_path}/secret" }}
            [storage."s3://strange"]
            endpoint_url = "http://{MARK}.invalid:x"
            secret = "{MARK}"
            [storage."{ftp.url}"]
            username = "lab"
            password = "{MARK}"
            [storage."abfs://"]
            connection_string = "{MARK}"
            """
        )
        (tmp_path / "secret").write_text(f"{MARK}\n")
        service = new_service(RAYTES_CONFIG=str(config), LAB_SECRET=MARK, RAYTES_MAX_RETRIES="0")
        with (tmp_path / "stderr").open("wb") as stderr:
            service.start(stderr.fileno())
        urls = [
            f"{proxy.url}/in", f"{proxy.url}/login/in", "s3://lab/in", "s3://strange/in",
            f"{ftp.url}/in", "abfs://lab/in",
        ]  # fmt: skip
        ids = [service.submit("true", inputs=[{"url": url, "path": "/in"}]) for url in urls]
        ids.append(service.submit("touch", "/o/f", outputs=[{"url": urls[2], "path": "/o/f"}]))
        tasks = [service.finish(task_id) for task_id in ids]
        assert {task.state for task in tasks} == {TesState.SYSTEM_ERROR}
        with service.client as client:
            said = [client.service_info().model_dump_json(), str(client.health())]
        said += [task.model_dump_json() for task in tasks]
        written = [tmp_path / "stderr"]
        for directory in (service.state_dir, runtime_path(service.state_dir)):
            written += [path for path in directory.rglob("*") if path.is_file()]
        assert any(path.name.startswith("raytes.db") for path in written)
        assert any("logs" in path.parts and "worker" in path.name for path in written)
        assert [text for text in said if MARK in text] == []
        assert [path for path in written if MARK.encode() in path.read_bytes()] == []
        # What is shown is shown in full but for them.
        assert f"{proxy.url}/in can't be fetched: the store answered 403" in said[2]
