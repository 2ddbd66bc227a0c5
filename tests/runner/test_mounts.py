from pathlib import Path
from typing import Any

import pytest

from raytes.errors import InvalidMounts
from raytes.models import TesTask
from raytes.runner.mounts import Bind, MountPlan, Original, plan_mounts

SCRATCH = Path("/scratch")


def plan(
    originals: dict[int, Original] | None = None, crowded: tuple[str, ...] = (), **task: Any
) -> MountPlan:
    task.setdefault("executors", [{"image": "i", "command": ["c"]}])
    return plan_mounts(TesTask.model_validate(task), SCRATCH, originals or {}, crowded)


def output(path: str, kind: str = "FILE") -> dict[str, str]:
    return {"path": path, "url": "file:///o", "type": kind}


def a_file(path: str = "/host/f") -> Original:
    return Original(Path(path), directory=False)


def a_directory(path: str = "/host/d", *, writable: bool = False) -> Original:
    return Original(Path(path), directory=True, exposed=writable)


def test_a_task_without_files_has_no_mounts() -> None:
    assert plan().binds == ()


def test_a_local_input_is_its_original_read_only() -> None:
    found = plan({0: a_file()}, inputs=[{"path": "/in/f", "url": "/host/f"}])
    assert found.binds == (Bind(Path("/host/f"), "/in/f", writable=False),)
    assert found.staged == {}


def test_a_remote_input_and_a_content_are_staged() -> None:
    found = plan(
        inputs=[{"path": "/in/f", "url": "s3://b/f"}, {"path": "/in/g", "content": "text"}]
    )
    assert found.staged == {0: SCRATCH / "inputs/0", 1: SCRATCH / "inputs/1"}
    assert {bind.destination for bind in found.binds} == {"/in/f", "/in/g"}


@pytest.mark.parametrize("owner", [{"volumes": ["/d/"]}, {"outputs": [output("/d", "DIRECTORY")]}])
def test_an_input_below_a_volume_or_a_directory_output_is_copied(owner: dict[str, Any]) -> None:
    found = plan({0: a_file()}, inputs=[{"path": "/d/x/f", "url": "/host/f"}], **owner)
    assert found.staged == {0: SCRATCH / "mounts/0/x/f"}
    assert found.binds == (Bind(SCRATCH / "mounts/0", "/d", writable=True),)


def test_a_local_input_beside_a_file_output_is_not_copied() -> None:
    found = plan(
        {0: a_file()}, inputs=[{"path": "/d/f", "url": "/host/f"}], outputs=[output("/d/out")]
    )
    assert found.staged == {}
    assert found.binds == (
        Bind(SCRATCH / "mounts/0", "/d", writable=True),
        Bind(Path("/host/f"), "/d/f", writable=False),
    )
    assert found.parents == {"/d": SCRATCH / "mounts/0"}


def test_an_input_that_is_an_output_too_is_a_copy_for_the_task_to_change() -> None:
    inputs = [{"path": "/d/f", "url": "/host/f"}, {"path": "/d/g", "url": "/host/g"}]
    found = plan({0: a_file(), 1: a_file("/host/g")}, inputs=inputs, outputs=[output("/d/f")])
    assert found.staged == {0: SCRATCH / "mounts/0/f"}
    assert {bind.destination: bind.writable for bind in found.binds} == {"/d": True, "/d/g": False}


def test_an_input_that_is_an_output_too_is_a_copy_also_in_an_input_directory() -> None:
    found = plan(
        {0: a_directory(), 1: a_file("/host/d/f")},
        inputs=[{"path": "/d", "url": "/host/d"}, {"path": "/d/f", "url": "/host/d/f"}],
        outputs=[output("/d/f")],
    )
    assert found.staged == {0: SCRATCH / "mounts/0", 1: SCRATCH / "mounts/0/f"}


def test_an_input_that_is_an_output_too_may_lie_directly_under_the_root() -> None:
    found = plan({0: a_file()}, inputs=[{"path": "/f", "url": "/h/f"}], outputs=[output("/f")])
    assert found.binds == (Bind(SCRATCH / "inputs/0", "/f", writable=True),)
    assert found.in_image == ()


def test_nested_volumes_and_outputs_are_one_mount() -> None:
    found = plan(volumes=["/v", "/v/w"], outputs=[output("/v/a/b/f"), output("/v/d", "DIRECTORY")])
    assert [bind.destination for bind in found.binds] == ["/v"]
    root = SCRATCH / "mounts/0"
    assert set(found.directories) == {root, root / "w", root / "a/b", root / "d"}


def test_a_directory_in_which_something_else_lies_is_copied() -> None:
    found = plan(
        {0: a_directory(), 1: a_file("/elsewhere/f")},
        inputs=[
            {"path": "/d", "url": "/host/d", "type": "DIRECTORY"},
            {"path": "/d/s/f", "url": "/elsewhere/f"},
        ],
    )
    assert found.staged == {0: SCRATCH / "mounts/0", 1: SCRATCH / "mounts/0/s/f"}


def test_what_an_input_directory_shows_already_is_not_mounted_again() -> None:
    found = plan(
        {0: a_directory(), 1: a_file("/host/d/f")},
        inputs=[
            {"path": "/d", "url": "/host/d", "type": "DIRECTORY"},
            {"path": "/d/f", "url": "/host/d/f"},
        ],
    )
    assert found.binds == (Bind(Path("/host/d"), "/d", writable=False),)


def test_an_input_directory_of_a_writable_root_is_the_original() -> None:
    found = plan(
        {0: a_directory(writable=True)},
        inputs=[{"path": "/d", "url": "/host/d", "type": "DIRECTORY"}],
        outputs=[output("/d/f")],
    )
    assert found.binds == (Bind(Path("/host/d"), "/d", writable=True, exposed=True),)
    assert found.parents == {}


def test_a_stream_that_lies_below_no_mount_is_a_file_of_its_own() -> None:
    executors = [{"image": "i", "command": ["c"], "stdout": "/l/out", "stderr": "/v/err"}]
    found = plan(executors=executors, volumes=["/v"])
    assert found.streams == {"/l/out": SCRATCH / "streams/0"}
    assert [bind.destination for bind in found.binds] == ["/v"]
    assert found.located("/v/err") == SCRATCH / "mounts/0/err"
    assert found.located("/l/out") == SCRATCH / "streams/0"
    assert found.located("/elsewhere") is None


def test_a_stream_that_is_an_output_lies_where_others_may_lie_too() -> None:
    executors = [{"image": "i", "command": ["c"], "stdout": "/l/out"}]
    found = plan(executors=executors, outputs=[output("/l/out")])
    assert found.streams == {}
    assert found.located("/l/out") == SCRATCH / "mounts/0/out"
    assert found.parents == {"/l": SCRATCH / "mounts/0"}


def test_outputs_under_the_root_and_in_crowded_directories_are_left_in_the_image() -> None:
    found = plan(
        crowded=("/usr/bin",),
        outputs=[output("/f"), output("/usr/bin/g"), output("/w/h"), output("/d", "DIRECTORY")],
    )
    assert found.in_image == (0, 1)
    assert [bind.destination for bind in found.binds] == ["/d", "/w"]


def test_the_parent_of_a_wildcard_is_what_comes_before_it() -> None:
    assert set(plan(outputs=[output("/a/b/*/c.txt")]).parents) == {"/a/b"}


@pytest.mark.parametrize(
    "task",
    [
        {"volumes": ["/dev/shm/x"]},
        {"outputs": [output("/proc/f")]},
        {"inputs": [{"path": "/sys/f", "content": "x"}]},
    ],
)
def test_what_belongs_to_the_kernel_is_refused(task: dict[str, Any]) -> None:
    with pytest.raises(InvalidMounts, match="kernel"):
        plan(**task)


def test_a_file_where_a_directory_is_needed_is_refused() -> None:
    with pytest.raises(InvalidMounts, match="/d"):
        plan({0: a_file()}, inputs=[{"path": "/d", "url": "/host/f"}], volumes=["/d"])
    with pytest.raises(InvalidMounts, match="/d"):
        plan({0: a_file()}, inputs=[{"path": "/d", "url": "/host/f"}], outputs=[output("/d/x")])


def test_a_stdout_over_the_original_of_an_input_is_refused() -> None:
    executors = [{"image": "i", "command": ["c"], "stdout": "/in/f"}]
    with pytest.raises(InvalidMounts, match="overwritten"):
        plan({0: a_file()}, executors=executors, inputs=[{"path": "/in/f", "url": "/host/f"}])


def test_an_input_inside_of_a_writable_original_is_refused() -> None:
    with pytest.raises(InvalidMounts, match="mounted writable"):
        plan(
            {0: a_directory(writable=True)},
            inputs=[
                {"path": "/d", "url": "/host/d", "type": "DIRECTORY"},
                {"path": "/d/f", "content": "x"},
            ],
        )
