"""A session with py-tes, told as JSON on stdout: py_tes.py URL IMAGE DIRECTORY."""

import json
import sys
from typing import Any

import tes

url, image, directory = sys.argv[1:]
client = tes.HTTPClient(url, timeout=30)


def task(name: str, script: str, **fields: Any) -> tes.Task:
    executor = tes.Executor(image=image, command=["sh", "-c", script])
    return tes.Task(name=name, executors=[executor], tags={"by": "py-tes"}, **fields)


def run(submitted: tes.Task) -> str:
    task_id = client.create_task(submitted)
    client.wait(task_id, timeout=120)
    return task_id


def told(answer: Any) -> Any:
    return json.loads(answer.as_json())


first = tes.Output(url=f"file://{directory}/first", path="/out/first")
second = tes.Output(url=f"file://{directory}/second", path="/out/second")
resources = tes.Resources(cpu_cores=1, ram_gb=0.25, preemptible=False)
write = run(task("write", "printf 'one\\n' > /out/first", outputs=[first], resources=resources))
reads = [
    tes.Input(url=first.url, path="/in/first"),
    tes.Input(content="two\n", path="/in/literal"),
]
read = run(
    task(
        "read",
        "echo reading; cat /in/first /in/literal > /out/second",
        inputs=reads,
        outputs=[second],
    )
)
failed = run(task("fail", "echo said before; echo in vain >&2; exit 3"))
endless = client.create_task(task("endless", "sleep 600"))
client.cancel_task(endless)

# Of our own tasks, which are the newest: others have what an old client doesn't know.
pages = [client.list_tasks(view="BASIC", page_size=3)]
while pages[-1].next_page_token:
    pages.append(client.list_tasks("MINIMAL", page_size=3, page_token=pages[-1].next_page_token))

json.dump(
    {
        "created": [write, read, failed, endless],
        "views": {view: told(client.get_task(read, view)) for view in ("MINIMAL", "BASIC", "FULL")},
        "failed": told(client.get_task(failed, "FULL")),
        "canceled": told(client.wait(endless, timeout=60)),
        "pages": [[task.id for task in page.tasks] for page in pages],
    },
    sys.stdout,
)
