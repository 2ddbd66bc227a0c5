"""Outputs found beneath mounts that are plain directories here."""

import os
import socket
from pathlib import Path

import pytest

from raytes.errors import Canceled, InvalidMounts, OutputFailed
from raytes.models import TesOutput
from raytes.runner import outputs
from raytes.runner.beneath import Namespace
from raytes.runner.control import Control
from raytes.runner.mounts import Bind
from raytes.runner.outputs import FoundOutput, find_output


def find(
    directory: Path, path: str, path_prefix: str | None = None, *, control: Control | None = None
) -> FoundOutput:
    output = TesOutput(path=path, url="file:///x", path_prefix=path_prefix)
    namespace = Namespace([Bind(directory, "/d", writable=True)])
    return find_output(output, namespace, pytest.fail, (control or Control()).check)


@pytest.mark.parametrize("kind", ["files", "a file and an empty directory"])
def test_two_files_that_would_be_one_are_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "xa").touch()
    (tmp_path / "x").mkdir()
    (tmp_path / "x/a").touch() if kind == "files" else (tmp_path / "x/a").mkdir()

    with pytest.raises(InvalidMounts, match="the outputs /d/x/a and /d/xa can't both be stored"):
        find(tmp_path, "/d/x*", "/d/x")

    found = find(tmp_path, "/d/x*", "/d/")
    assert sorted(found.paths) == ["x/a", "xa"]


def test_what_is_neither_a_file_nor_a_directory_is_left_out_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    device = Bind(Path("/dev/null"), "/d/device", writable=True)  # only root can make one
    namespace = Namespace([Bind(tmp_path, "/d", writable=True), device])
    warnings: list[str] = []
    output = TesOutput(path="/d", url="file:///x")
    found = find_output(output, namespace, warnings.append, Control().check)
    assert list(found.paths) == ["file"]
    assert warnings == [
        f"/d/{name} is left out: it is a {what}, not a file or a directory"
        for name, what in [("device", "device"), ("fifo", "FIFO"), ("socket", "socket")]
    ]


@pytest.mark.parametrize("path", ["/d/" + "n" * 256, "/d/sub/" * 900])
def test_a_path_longer_than_any_can_be_is_not_the_node_s_fault(tmp_path: Path, path: str) -> None:
    with pytest.raises(OutputFailed) as failed:
        find(tmp_path, path, "/")
    assert (failed.value.transient, failed.value.of_node) == (False, False)


@pytest.mark.parametrize("becomes", ["nothing", "a file"])
def test_what_another_task_changes_meanwhile_is_not_the_node_s_fault(
    tmp_path: Path, becomes: str
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/f").touch()

    class Shared(Namespace):
        def resolve(self, path: str) -> Path | None:
            found = super().resolve(path)
            if path == "/d/sub/f":
                (tmp_path / "sub").rename(tmp_path / "elsewhere")
                if becomes == "a file":
                    (tmp_path / "sub").touch()
            return found

    namespace = Shared([Bind(tmp_path, "/d", writable=True)])
    with pytest.raises(OutputFailed, match="/d can't be stored: it was changed while") as failed:
        find_output(TesOutput(path="/d", url="file:///x"), namespace, pytest.fail, Control().check)
    assert (failed.value.transient, failed.value.of_node) == (False, False)


def test_a_link_that_another_task_replaces_meanwhile_is_not_the_node_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to("f")
    read = os.readlink

    def replace_and_read(path: Path) -> str:
        path.unlink()
        path.touch()
        return read(path)

    monkeypatch.setattr(os, "readlink", replace_and_read)
    with pytest.raises(OutputFailed, match="it was changed while it was looked for"):
        find(tmp_path, "/d")


def test_each_of_several_links_to_a_directory_is_a_directory_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference/f").touch()
    for sample in ("a", "b"):
        (tmp_path / sample).mkdir()
        (tmp_path / sample / "reference").symlink_to("../reference")
    expected = ["a/reference/f", "b/reference/f", "reference/f"]
    assert sorted(find(tmp_path, "/d").paths) == expected
    assert sorted(find(tmp_path, "/d/*", "/d").paths) == expected


@pytest.mark.parametrize("path", ["/d/0", "/d/0" + "/*" * 30], ids=["directory", "wildcards"])
def test_links_that_multiply_what_they_lead_to_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Two links to the next directory, in each of thirty: a thousand million paths."""
    for level in range(30):
        (tmp_path / str(level)).mkdir()
        for name in "ab":
            (tmp_path / str(level) / name).symlink_to(f"../{level + 1}")
    (tmp_path / "30").mkdir()
    (tmp_path / "30/f").touch()
    monkeypatch.setattr(outputs, "_MAX_AGAIN", 50)
    with pytest.raises(OutputFailed, match="links lead to the same directories"):
        find(tmp_path, path, "/d")


@pytest.mark.parametrize("path", ["/d", "/d/*/*"])
def test_a_cancel_ends_the_search(tmp_path: Path, path: str) -> None:
    (tmp_path / "a").mkdir()
    control = Control()
    control.cancel()
    with pytest.raises(Canceled):
        find(tmp_path, path, "/", control=control)
