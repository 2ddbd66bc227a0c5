"""Generated task documents, as clients send them and as the server shows them."""

from typing import Any

from hypothesis import strategies as st

JsonObject = dict[str, Any]

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0="), min_size=1)
components = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0*?[\\"), min_size=1, max_size=8
).filter(lambda name: name not in (".", ".."))
arguments = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
zones = st.from_regex(r"\A[a-z]([a-z0-9_.-]{0,8}[a-z0-9])?\Z")
paths = st.lists(components, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
file_types = st.sampled_from(["FILE", "DIRECTORY"])
timestamps = st.datetimes().map(lambda moment: moment.isoformat() + "Z")
int32s = st.integers(-(2**31), 2**31 - 1)
gigabytes = st.floats(0, 9e5)
states = st.sampled_from(
    ["QUEUED", "INITIALIZING", "RUNNING", "COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR"]
)


def objects(required: JsonObject, optional: JsonObject) -> st.SearchStrategy[JsonObject]:
    return st.fixed_dictionaries(required, optional=optional)


executors = objects(
    {"image": names.filter(str.strip), "command": st.lists(arguments.filter(bool), min_size=1)},
    {
        "workdir": paths,
        "stdin": paths,
        "stdout": paths,
        "stderr": paths,
        "env": st.dictionaries(names, arguments, max_size=3),
        "ignore_error": st.booleans(),
    },
)

described = {"name": text, "description": text}

inputs = st.one_of(
    objects({"path": paths, "url": text.filter(bool)}, {**described, "type": file_types}),
    objects({"path": paths, "content": text}, {**described, "streamable": st.booleans()}),
)

outputs = objects(
    {"path": paths, "url": text.filter(bool)},
    {**described, "type": file_types, "path_prefix": text},
)

resources = objects(
    {},
    {
        "cpu_cores": st.integers(0, 2**31 - 1),
        "ram_gb": gigabytes,
        "disk_gb": gigabytes,
        "preemptible": st.booleans(),
        "zones": st.lists(zones, max_size=3),
        "backend_parameters": st.dictionaries(text, text, max_size=3),
    },
)


def _apart(items: list[JsonObject]) -> list[JsonObject]:
    """The same inputs, each below a top-level directory of its own."""
    return [{**item, "path": f"/{index}{item['path']}"} for index, item in enumerate(items)]


_asked_for = {
    "name": arguments,
    "description": text,
    "inputs": st.lists(inputs, max_size=3).map(_apart),
    "outputs": st.lists(outputs, max_size=3),
    "resources": resources,
    "volumes": st.lists(paths, max_size=3),
    "tags": st.dictionaries(arguments, arguments, max_size=3),
}

submissions = objects({"executors": st.lists(executors, min_size=1, max_size=3)}, _asked_for)
"""Documents that obey every rule."""

executor_logs = objects(
    {"exit_code": int32s},
    {"start_time": timestamps, "end_time": timestamps, "stdout": text, "stderr": text},
)

output_file_logs = objects(
    {"url": text, "path": paths, "size_bytes": st.integers(0, 2**63).map(str)}, {}
)

task_logs = objects(
    {
        "logs": st.lists(executor_logs, max_size=3),
        "outputs": st.lists(output_file_logs, max_size=2),
    },
    {
        "metadata": st.dictionaries(text, text, max_size=3),
        "start_time": timestamps,
        "end_time": timestamps,
        "system_logs": st.lists(text, max_size=3),
    },
)

stored = objects(
    {
        "id": names,
        "state": states,
        "creation_time": timestamps,
        "executors": st.lists(executors, min_size=1, max_size=2),
    },
    {**_asked_for, "logs": st.lists(task_logs, max_size=2)},
)
"""Documents of tasks that the server knows."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


def with_types(document: JsonObject) -> JsonObject:
    """The document with the one default that the server fills in."""
    filled = dict(document)
    for name in ("inputs", "outputs"):
        if name in filled:
            filled[name] = [{"type": "FILE", **item} for item in filled[name]]
    return filled
