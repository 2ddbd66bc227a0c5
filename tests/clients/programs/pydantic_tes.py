"""A session with pydantic-tes, told as JSON on stdout: pydantic_tes.py URL IMAGE DIRECTORY."""

import json
import sys
import time
from typing import Any

from pydantictes.api import TesClient
from pydantictes.models import (
    TesExecutor,
    TesFileType,
    TesInput,
    TesOutput,
    TesResources,
    TesState,
    TesTask,
)

url, image, directory = sys.argv[1:]
client = TesClient(url)
# It knows no CANCELING: a cancel must have come to its end when it answers.
AT_WORK = {TesState.QUEUED, TesState.INITIALIZING, TesState.RUNNING}


def task(name: str, script: str, **fields: Any) -> TesTask:
    executor = TesExecutor(image=image, command=["sh", "-c", script])
    return TesTask(name=name, executors=[executor], **fields)


def ended(task_id: str) -> TesTask:
    # Every poll is a document that the client's own models must accept.
    while (seen := client.get_task(task_id, "FULL")).state in AT_WORK:
        time.sleep(0.1)
    return seen


def told(answer: Any) -> Any:
    return json.loads(answer.model_dump_json())


first = TesOutput(url=f"file://{directory}/first", path="/out/first", type=TesFileType.FILE)
second = TesOutput(url=f"file://{directory}/second", path="/out/second", type=TesFileType.FILE)
given = TesInput(url=first.url, path="/in/first", type=TesFileType.FILE)
resources = TesResources(cpu_cores=1, ram_gb=0.25)
write = client.create_task(
    task("write", "echo one > /out/first", outputs=[first], resources=resources)
)
written = ended(write.id)
read = client.create_task(
    task(
        "read",
        "cat /in/first > /out/second; echo two >> /out/second",
        inputs=[given],
        outputs=[second],
    )
)
views = {"FULL": told(ended(read.id))}
views |= {"BASIC": told(client.get_task(read, "BASIC"))}
failed = client.create_task(task("fail", "echo in vain >&2; exit 3"))
endless = client.create_task(task("endless", "sleep 600"))
client.cancel_task(endless)

json.dump(
    {
        "written": told(written),
        "views": views,
        "failed": told(ended(failed.id)),
        "canceled": told(ended(endless.id)),
        "created": [write.id, read.id, failed.id, endless.id],
        "listed": told(client.list_tasks())["tasks"],
        "service": told(client.service_info()),
    },
    sys.stdout,
)
