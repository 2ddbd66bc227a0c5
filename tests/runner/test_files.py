"""Inputs, outputs and volumes, as containers see them."""

import io
import os
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from raytes.config import LocalRoot
from raytes.models import TesFileType, TesState
from raytes.runner.podman import Engine
from tests.runner.conftest import Attempt, Bench


def output(bench: Bench, path: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"path": path, "url": str(bench.files / name), **fields}


def stored(attempt: Attempt) -> list[tuple[str, str]]:
    return [(one.path, one.size_bytes) for one in attempt.log.outputs]


def test_an_output_file_has_the_right_bytes_and_is_in_the_log(bench: Bench) -> None:
    attempt = bench.sh("printf 12345 > /out/f", outputs=[output(bench, "/out/f", "f")])
    assert attempt.state is TesState.COMPLETE
    assert (bench.files / "f").read_text() == "12345"
    (log,) = attempt.log.outputs
    assert (log.path, log.size_bytes, log.url) == ("/out/f", "5", str(bench.files / "f"))


def test_a_directory_output_is_listed_file_by_file(bench: Bench) -> None:
    attempt = bench.sh(
        "mkdir -p /out/a/b /out/empty; echo x > /out/a/b/f; echo yy > /out/g",
        outputs=[output(bench, "/out", "d", type="DIRECTORY")],
    )
    assert stored(attempt) == [("/out/a/b/f", "2"), ("/out/g", "3")]
    assert (bench.files / "d/empty").is_dir()
    assert attempt.last.output_types == {0: TesFileType.DIRECTORY}


def test_a_directory_declared_a_file_is_stored_as_what_it_is(bench: Bench) -> None:
    attempt = bench.sh(
        "mkdir /out/d; echo x > /out/d/f", outputs=[output(bench, "/out/d", "d", type="FILE")]
    )
    assert (bench.files / "d/f").read_text() == "x\n"
    assert attempt.last.output_types == {0: TesFileType.DIRECTORY}


def test_inputs_of_every_kind_are_there_at_any_depth(bench: Bench) -> None:
    (bench.files / "f").write_text("file\n")
    (bench.files / "d/e").mkdir(parents=True)
    (bench.files / "d/e/g").write_text("in directory\n")
    url = str(bench.files / "f")
    attempt = bench.sh(
        "cat '/a/b c/%#ü' /again/f /lit /etc/app.conf /dir/e/g /etc/own.conf; wc -c < /empty",
        inputs=[
            {"url": url, "path": "/a/b c/%#ü"},
            {"url": f"file://{url}", "path": "/again/f"},
            {"content": "literal\r\n", "path": "/lit", "url": "s3://ignored/x"},
            {"content": "", "path": "/empty"},
            {"url": url, "path": "/etc/app.conf"},
            {"url": str(bench.files / "d"), "path": "/dir", "type": "DIRECTORY"},
        ],
    )
    assert attempt.stdout() == ("file\nfile\nliteral\r\nfile\nin directory\nthe image's own\n0\n")


def test_hundreds_of_inputs_are_all_there(bench: Bench) -> None:
    (bench.files / "f").write_text("x")
    attempt = bench.sh(
        "ls /in | wc -l",
        inputs=[{"url": str(bench.files / "f"), "path": f"/in/{n}"} for n in range(300)],
    )
    assert attempt.stdout() == "300\n"


@pytest.mark.parametrize(
    ("path", "outputs", "volumes"),
    [
        ("/in/f", [], []),
        ("/vol/f", [], ["/vol"]),
        ("/out/f", [("/out", "DIRECTORY")], []),
        ("/out/f", [("/out/g", "FILE")], []),
    ],
)
def test_the_original_of_an_input_is_never_changed(
    bench: Bench, path: str, outputs: list[tuple[str, str]], volumes: list[str]
) -> None:
    original = bench.files / "f"
    original.write_text("original")
    attempt = bench.sh(
        f"echo changed > {path}; chmod 000 {path}; rm {path}; touch /out/g; true",
        inputs=[{"url": str(original), "path": path}],
        volumes=volumes,
        outputs=[output(bench, where, "o", type=kind) for where, kind in outputs],
    )
    assert attempt.state is TesState.COMPLETE
    assert original.read_text() == "original"
    assert original.stat().st_mode & 0o777 == 0o644


def test_an_input_directory_with_an_output_in_it_is_not_changed(bench: Bench) -> None:
    (bench.files / "d").mkdir()
    (bench.files / "d/f").write_text("f\n")
    attempt = bench.sh(
        "cat /d/f > /d/sub/g; echo more >> /d/f",
        inputs=[{"url": str(bench.files / "d"), "path": "/d", "type": "DIRECTORY"}],
        outputs=[output(bench, "/d/sub/g", "g")],
    )
    assert attempt.state is TesState.COMPLETE
    assert (bench.files / "g").read_text() == "f\n"
    assert os.listdir(bench.files / "d") == ["f"]
    assert (bench.files / "d/f").read_text() == "f\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
def test_what_is_mounted_in_an_input_directory_is_seen_and_not_changed(bench: Bench) -> None:
    directory = bench.files / "d"
    points = [directory / "a b\\é", directory / "a b\\é/sub/deeper"]
    for point in points:
        point.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", point], check=True)
        (point / "f").write_text("original\n")
    try:
        attempt = bench.sh(
            "find /in -name f -exec cat {} ';'\n"
            'find /in -name f | while read -r f; do echo x > "$f"; rm "$f"; done\n'
            'find /in -type d | while read -r d; do touch "$d/new"; done; true',
            inputs=[{"url": str(directory), "path": "/in", "type": "DIRECTORY"}],
        )
        assert attempt.state is TesState.COMPLETE, attempt.system_logs
        assert attempt.stdout() == "original\n" * 2
        assert [(point / "f").read_text() for point in points] == ["original\n"] * 2
        assert not list(directory.rglob("new"))
    finally:
        for point in reversed(points):
            subprocess.run(["umount", point], check=True)


@pytest.mark.parametrize("path", ["/d/f", "/f"])
def test_an_input_that_is_an_output_too_may_be_changed(bench: Bench, path: str) -> None:
    (bench.files / "f").write_text("old\n")
    attempt = bench.sh(
        f"stat -c %a {path}; echo new >> {path}",
        inputs=[{"url": str(bench.files / "f"), "path": path}],
        outputs=[output(bench, path, "copy")],
    )
    assert attempt.state is TesState.COMPLETE
    assert attempt.stdout() == "666\n"
    assert (bench.files / "copy").read_text() == "old\nnew\n"
    assert (bench.files / "f").read_text() == "old\n"


def test_a_root_declared_writable_may_be_changed(bench: Bench) -> None:
    (bench.files / "d").mkdir(mode=0o750)
    attempt = bench.run(
        {
            "inputs": [{"url": str(bench.files / "d"), "path": "/d", "type": "DIRECTORY"}],
            "executors": [bench.executor("echo new > /d/f")],
        },
        local_root=(LocalRoot(path=bench.files, rw=True),),
    )
    assert attempt.state is TesState.COMPLETE
    assert (bench.files / "d/f").read_text() == "new\n"
    assert (bench.files / "d").stat().st_mode & 0o777 == 0o750


def test_inputs_and_outputs_may_share_a_directory(bench: Bench) -> None:
    (bench.files / "a").write_text("a\n")
    attempt = bench.run(
        {
            "inputs": [
                {"url": str(bench.files / "a"), "path": "/work/a"},
                {"content": "cat a > tmp; mv tmp b", "path": "/work/script"},
            ],
            "executors": [bench.executor("sh script", workdir="/work", stdout="/work/log")],
            "outputs": [output(bench, "/work/b", "b"), output(bench, "/work/log", "log")],
        }
    )
    assert attempt.state is TesState.COMPLETE
    assert (bench.files / "b").read_text() == "a\n"
    assert (bench.files / "log").read_text() == ""


@pytest.mark.parametrize(
    ("directory", "own"), [("/usr/local/share/x", "keep"), ("/etc", "own.conf"), ("/tmp", "")]
)
def test_the_image_s_own_files_beside_an_output_stay_visible(
    bench: Bench, directory: str, own: str
) -> None:
    attempt = bench.sh(
        f"ls {directory}/{own} && echo new > {directory}/t && mv {directory}/t {directory}/out.txt",
        outputs=[output(bench, f"{directory}/out.txt", "out")],
    )
    assert attempt.state is TesState.COMPLETE
    assert own in attempt.stdout()
    assert (bench.files / "out").read_text() == "new\n"


@pytest.fixture
def import_image(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Makes an image of busybox and some links, with VOLUMEs; gives its name."""
    images: list[str] = []

    def import_image(*links: tuple[str, str, bytes], volumes: Sequence[str] = ()) -> str:
        archive = tmp_path / f"{len(images)}.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(str(shutil.which("busybox")), "bin/busybox")
            secret = tarfile.TarInfo("work/secret")
            tar.addfile(secret, io.BytesIO())
            for name, target, kind in links:
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, target
                tar.addfile(member)
        changes = [f"--change=VOLUME {volume}" for volume in volumes]
        command = ["podman", "import", "--quiet", *changes, str(archive)]
        made = subprocess.run(command, check=True, text=True, capture_output=True)
        images.append(made.stdout.strip().removeprefix("sha256:"))
        return images[-1]

    yield import_image
    subprocess.run(["podman", "rmi", "--force", *images], check=True, capture_output=True)


def test_an_image_s_links_lead_no_input_to_the_node(
    bench: Bench, import_image: Callable[..., str]
) -> None:
    image = import_image(("work/link", str(bench.files), tarfile.SYMTYPE))
    (bench.files / "job").write_text("untouched")
    attempt = bench.run(
        {
            "executors": [{"image": image, "command": ["/bin/busybox", "touch", "/work/out"]}],
            "inputs": [{"content": "* * * * *", "path": "/work/link/job"}],
            "outputs": [output(bench, "/work/out", "out")],
        }
    )
    assert (bench.files / "job").read_text() == "untouched"
    assert (attempt.state, attempt.failure_reason) == (TesState.SYSTEM_ERROR, "invalid_mounts")
    assert "the input /work/link/job can't be placed" in attempt.system_logs


def test_an_image_s_links_get_it_no_file_of_the_node(
    bench: Bench, import_image: Callable[..., str]
) -> None:
    """Podman names a hard link's other name from above the directory, here `work/secret`."""
    image = import_image(
        ("work/work", str(bench.files), tarfile.SYMTYPE),
        ("work/x", "work/secret", tarfile.LNKTYPE),
    )
    (bench.files / "secret").write_text("untouched")
    command = "echo changed > /work/x; echo changed > /work/secret; cp /work/x /work/out"
    attempt = bench.run(
        {
            "executors": [{"image": image, "command": ["/bin/busybox", "sh", "-c", command]}],
            "outputs": [output(bench, "/work/out", "out")],
        }
    )
    assert (bench.files / "secret").read_text() == "untouched"
    assert attempt.state is TesState.COMPLETE, attempt.system_logs
    assert (bench.files / "out").read_text() == "changed\n"


def test_images_may_have_the_same_links(bench: Bench, import_image: Callable[..., str]) -> None:
    link = ("work/touch", "/bin/busybox", tarfile.SYMTYPE)
    attempt = bench.run(
        {
            "executors": [
                {"image": image, "command": ["/work/touch", "/work/out"]}
                for image in (import_image(link), import_image(link, ("y", "", tarfile.DIRTYPE)))
            ],
            "outputs": [output(bench, "/work/out", "out")],
        }
    )
    assert attempt.state is TesState.COMPLETE, attempt.system_logs


@pytest.mark.parametrize(
    ("volume", "path", "seen"),
    [
        ("/work", "/work/out", "out\nsecret\n"),
        ("/work", "/work/o*", "out\nsecret\n"),
        ("/none", "/none/out", "out\n"),
    ],
)
def test_outputs_may_lie_in_an_image_s_volume(
    bench: Bench, import_image: Callable[..., str], volume: str, path: str, seen: str
) -> None:
    run = {"image": import_image(volumes=[volume])}
    attempt = bench.run(
        {
            "executors": [
                run | {"command": ["/bin/busybox", "touch", f"{volume}/out"]},
                run | {"command": ["/bin/busybox", "ls", volume]},
            ],
            "outputs": [output(bench, path, "o", path_prefix=f"{volume}/")],
        }
    )
    assert attempt.state is TesState.COMPLETE, attempt.system_logs
    assert stored(attempt) == [(f"{volume}/out", "0")]
    assert attempt.stdout(1) == seen


def test_an_image_s_volume_hides_nothing_of_what_a_task_mounts(
    bench: Bench, import_image: Callable[..., str]
) -> None:
    image = import_image(volumes=["/vol/x", "/vol/y/z", "/out/x"])
    script = "ls /vol/x /vol/y/z /out/x; cp /vol/x/in /vol/y/z/made; cp /vol/x/in /out/x/made"
    again = "cat /vol/y/z/made /out/x/made"
    attempt = bench.run(
        {
            "inputs": [{"content": "in\n", "path": "/vol/x/in"}],
            "volumes": ["/vol"],
            "outputs": [output(bench, "/out", "out", type="DIRECTORY")],
            "executors": [
                {"image": image, "command": ["/bin/busybox", "sh", "-c", one]}
                for one in (script, again)
            ],
        }
    )
    assert attempt.state is TesState.COMPLETE, attempt.stderr()
    assert attempt.stdout(1) == "in\nin\n"
    assert (bench.files / "out/x/made").read_text() == "in\n"


def test_what_lies_in_an_image_s_volume_is_seen_there_with_a_task_s_inputs(
    bench: Bench, import_image: Callable[..., str]
) -> None:
    attempt = bench.run(
        {
            "inputs": [{"content": "in", "path": "/work/in"}],
            "executors": [
                {
                    "image": import_image(volumes=["/work/"]),
                    "command": ["/bin/busybox", "ls", "/work"],
                }
            ],
        }
    )
    assert attempt.stdout() == "in\nsecret\n"


@pytest.mark.parametrize(
    ("volume", "path", "found"),
    [
        ("/none", "/none", ["/none/out"]),
        ("/work", "/work", ["/work/out", "/work/secret"]),
        ("/work", "/work/o*", ["/work/out"]),
        ("/work", "/work/out", ["/work/out"]),
    ],
)
def test_an_image_s_volume_may_be_an_output_or_crowded(
    bench: Bench,
    import_image: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    volume: str,
    path: str,
    found: list[str],
) -> None:
    monkeypatch.setattr("raytes.runner.image_files._MAX_FILES", 0)
    run = {"image": import_image(volumes=[volume])}
    attempt = bench.run(
        {
            "executors": [
                run | {"command": ["/bin/busybox", "touch", f"{volume}/out"]},
                run | {"command": ["/bin/busybox", "sh", "-c", f"echo >> {volume}/out"]},
            ],
            "outputs": [output(bench, path, "o", path_prefix=volume)],
        }
    )
    assert attempt.state is TesState.COMPLETE, attempt.system_logs
    sizes = {f"{volume}/out": "1", f"{volume}/secret": "0"}
    assert stored(attempt) == [(one, sizes[one]) for one in found]


def test_an_output_under_the_root_that_an_executor_removes_is_missing(bench: Bench) -> None:
    attempt = bench.run(
        {
            "executors": [bench.executor("echo x > /out.txt"), bench.executor("rm /out.txt")],
            "outputs": [output(bench, "/out.txt", "out")],
        }
    )
    assert attempt.failure_reason == "missing_output"
    assert not (bench.files / "out").exists()


def test_a_link_in_place_of_an_output_under_the_root_gets_no_file_of_the_node(
    bench: Bench,
) -> None:
    (bench.files / "secret").write_text("secret")
    attempt = bench.run(
        {
            "executors": [
                bench.executor(f"ln -s {bench.files} /out"),
                bench.executor("cat", stdin="/out/secret"),
            ],
            "outputs": [output(bench, "/out", "out")],
        }
    )
    assert len(attempt.executors) == 1, attempt.stdout(1)
    assert attempt.failure_reason == "input_failed"


def test_an_output_under_the_root_that_is_too_deep_is_not_the_node_s_fault(bench: Bench) -> None:
    name = "d" * 200
    script = f"mkdir /out; cd /out; i=0; while [ $i -lt 40 ]; do mkdir {name}; cd -P {name}; "
    attempt = bench.run(
        {
            "executors": [bench.executor(script + "i=$((i+1)); done"), bench.executor("true")],
            "outputs": [output(bench, "/out", "out", type="FILE")],
        }
    )
    assert attempt.failure_reason == "output_failed", attempt.system_logs
    assert (attempt.last.retry, attempt.last.of_node) == (False, False)


def test_outputs_may_lie_directly_under_the_root(bench: Bench) -> None:
    attempt = bench.run(
        {
            "executors": [
                bench.executor(
                    "echo one > /t; mv /t /out.txt; mkdir /d; echo f > /d/f; ls /bin/sh"
                ),
                bench.executor("cat /out.txt; echo two >> /out.txt; echo log > /x.log"),
                bench.executor("wc -l", stdin="/out.txt"),
            ],
            "outputs": [
                output(bench, "/out.txt", "out"),
                output(bench, "/d", "d"),
                output(bench, "/*.log", "logs", path_prefix="/"),
            ],
        }
    )
    assert attempt.state is TesState.COMPLETE, attempt.system_logs
    assert attempt.stdout(1) == "one\n"
    assert attempt.stdout(2) == "2\n"
    assert (bench.files / "out").read_text() == "one\ntwo\n"
    assert (bench.files / "d/f").read_text() == "f\n"
    assert os.listdir(bench.files / "logs") == ["x.log"]


def test_what_is_put_into_a_container_ends_where_its_archive_ends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Podman reads no further, and has sometimes hung up before it is sent the padding."""
    sizes = []
    write_archive = Engine.write_archive

    def write(self: Engine, container: str, path: str, archive: IO[bytes]) -> None:
        sizes.append(os.fstat(archive.fileno()).st_size)
        write_archive(self, container, path, archive)

    monkeypatch.setattr(Engine, "write_archive", write)
    executors = [bench.executor("echo one > /out.txt"), bench.executor("cat /out.txt")]
    attempt = bench.run({"executors": executors, "outputs": [output(bench, "/out.txt", "out")]})
    assert attempt.stdout(1) == "one\n"
    [size] = sizes
    assert size < tarfile.RECORDSIZE


def test_outputs_under_the_root_of_a_container_that_never_began_are_missing(bench: Bench) -> None:
    attempt = bench.run(
        {
            "executors": [
                {"image": bench.images.busybox, "command": ["nope"], "ignore_error": True},
                bench.executor("echo x > /out.txt"),
            ],
            "outputs": [output(bench, "/out.txt", "out"), output(bench, "/none.txt", "none")],
        },
        missing_outputs="warn",
    )
    assert attempt.state is TesState.COMPLETE, attempt.system_logs
    assert attempt.exit_codes == [127, 0]
    assert "no executor has made anything at /none.txt" in attempt.system_logs
    assert (bench.files / "out").read_text() == "x\n"


def test_volumes_start_empty_may_be_nested_and_be_outputs(bench: Bench) -> None:
    attempt = bench.run(
        {
            "volumes": ["/vol", "/vol/inner", "/usr/local/share/x"],
            "executors": [
                {
                    "image": bench.images.fussy,
                    "command": [
                        "/bin/sh",
                        "-c",
                        "ls /vol/inner /usr/local/share/x; echo x > /vol/inner/f",
                    ],
                }
            ],
            "outputs": [
                output(bench, "/vol", "vol", type="DIRECTORY"),
                output(bench, "/vol/inner/f", "f"),
            ],
        }
    )
    assert attempt.state is TesState.COMPLETE
    assert "keep" not in attempt.stdout()
    assert (bench.files / "vol/inner/f").read_text() == (bench.files / "f").read_text() == "x\n"


def test_paths_of_volumes_and_outputs_may_be_of_any_characters(bench: Bench) -> None:
    names = ["a b", "50%25", "#x", """it's "q" $HOME""", "new\nline", "ünï", ":ro,z", "-f"]
    script = 'for one; do echo "$one" > "/v/$one/f" && cp "/v/$one/f" "/o/$one/$one"; done'
    attempt = bench.run(
        {
            "volumes": [f"/v/{name}" for name in names],
            "executors": [
                {"image": bench.images.busybox, "command": ["sh", "-euc", script, "sh", *names]}
            ],
            "outputs": [output(bench, f"/o/{name}/{name}", f"{name}.out") for name in names],
        }
    )
    assert attempt.state is TesState.COMPLETE, attempt.system_logs + attempt.stderr()
    assert [path for path, _ in stored(attempt)] == [f"/o/{name}/{name}" for name in names]
    for name in names:
        assert (bench.files / f"{name}.out").read_text() == f"{name}\n"


def test_a_user_of_the_image_may_write_outputs(bench: Bench) -> None:
    command = ["/bin/sh", "-c", "umask 077; id -u > /out/f; mkdir /dir/d; echo x > /dir/d/f"]
    attempt = bench.run(
        {
            "executors": [{"image": bench.images.fussy, "command": command}],
            "outputs": [
                output(bench, "/out/f", "f"),
                output(bench, "/dir", "dir", type="DIRECTORY"),
            ],
        }
    )
    assert attempt.state is TesState.COMPLETE
    assert (bench.files / "f").read_text() == "1000\n"
    assert (bench.files / "f").stat().st_uid == os.geteuid()
    assert (bench.files / "dir/d/f").read_text() == "x\n"


def test_a_user_of_the_image_may_change_copies_and_write_in_a_workdir(bench: Bench) -> None:
    (bench.files / "in/sub").mkdir(parents=True)
    (bench.files / "in/sub/f").write_text("a")
    (bench.files / "in/link").symlink_to("sub/f")
    script = "for f in f new; do printf b >> /v/in/sub/$f; done; printf b >> /v/c; cat /v/c > wrote"
    command = ["/bin/sh", "-c", script]
    attempt = bench.run(
        {
            "executors": [{"image": bench.images.fussy, "command": command, "workdir": "/v/w/w"}],
            "volumes": ["/v"],
            "inputs": [
                {"url": str(bench.files / "in"), "path": "/v/in", "type": "DIRECTORY"},
                {"content": "a", "path": "/v/c"},
            ],
            "outputs": [output(bench, "/v", "out", type="DIRECTORY")],
        }
    )
    assert attempt.state is TesState.COMPLETE, attempt.system_logs
    read = {name: (bench.files / "out" / name).read_text() for name in ("in/sub/f", "in/sub/new")}
    assert read == {"in/sub/f": "ab", "in/sub/new": "b"}
    assert (bench.files / "out/w/w/wrote").read_text() == "ab"
    assert (bench.files / "in/sub/f").stat().st_mode & 0o777 == 0o644


def test_another_executor_may_write_beside_a_stdout_that_is_an_output(bench: Bench) -> None:
    attempt = bench.run(
        {
            "executors": [
                bench.executor("echo tmp > /o/tmp"),
                bench.executor("cat /o/tmp", stdout="/o/log"),
                bench.executor("echo more >> /o/log"),
            ],
            "outputs": [output(bench, "/o/log", "log")],
        }
    )
    assert attempt.state is TesState.COMPLETE, attempt.system_logs
    assert (bench.files / "log").read_text() == "tmp\nmore\n"


def test_a_directory_in_which_nothing_can_be_stored_is_stored_empty(bench: Bench) -> None:
    attempt = bench.sh(
        "mkfifo /o/d/fifo; ln -s nowhere /o/d/link",
        outputs=[output(bench, "/o/d", "d", type="DIRECTORY")],
    )
    assert attempt.state is TesState.COMPLETE
    assert os.listdir(bench.files / "d") == []


def test_wildcards_choose_outputs_and_path_prefix_cuts_their_paths(bench: Bench) -> None:
    attempt = bench.sh(
        "mkdir -p /w/x /w/y/z; touch /w/x/a.txt /w/y/b.txt /w/y/.c.txt /w/y/z/d.txt /w/e.txt",
        outputs=[
            output(bench, "/w/*/?.txt", "all", path_prefix="/w"),
            output(bench, "/w/*.none", "none", path_prefix="/w"),
        ],
    )
    assert attempt.state is TesState.COMPLETE
    assert [path for path, _ in stored(attempt)] == ["/w/x/a.txt", "/w/y/b.txt"]
    assert (bench.files / "all/x/a.txt").exists()
    assert "/w/*.none" in attempt.system_logs
    assert not (bench.files / "none").exists()


def test_links_inside_the_mounts_are_followed_and_links_out_of_them_are_not(
    bench: Bench,
) -> None:
    secret = bench.files / "secret"
    secret.write_text("secret")
    attempt = bench.sh(
        f"cd /out; echo x > /vol/f; ln -s /vol/f in; ln -s {secret} host; mkfifo fifo;"
        "ln -s ../../etc/passwd up; ln -s . loop; ln -s nowhere dangling",
        volumes=["/vol"],
        outputs=[output(bench, "/out", "out", type="DIRECTORY")],
    )
    assert attempt.state is TesState.COMPLETE
    assert [path for path, _ in stored(attempt)] == ["/out/in"]
    assert (bench.files / "out/in").read_text() == "x\n"
    for name in ("host", "up", "loop", "dangling", "fifo"):
        assert f"/out/{name} is left out" in attempt.system_logs


def test_files_whose_names_are_no_text_are_stored_and_named_as_well_as_can_be(
    bench: Bench,
) -> None:
    attempt = bench.sh(
        r"""cd /out; echo x > "$(printf 'a\377b')"; echo y > "$(printf 'c\nd')"; """
        r"""ln -s / "$(printf 'e\377\nf')" """,
        outputs=[output(bench, "/out", "out", type="DIRECTORY")],
    )
    assert attempt.state is TesState.COMPLETE, attempt.system_logs
    assert stored(attempt) == [("/out/a\ufffdb", "2"), ("/out/c\nd", "2")]
    assert os.listdir(os.fsencode(bench.files / "out")) == [b"a\xffb", b"c\nd"]
    assert "/out/e\ufffd f is left out" in attempt.system_logs
    assert attempt.log.to_json()


def test_an_input_whose_name_is_not_utf_8_is_there(bench: Bench) -> None:
    name = os.fsdecode(b"caf\xe9")
    (bench.files / name).write_text("file\n")
    (bench.files / "d").mkdir()
    (bench.files / "d" / name).write_text("in directory\n")
    (bench.files / f"{name}.d").mkdir()
    (bench.files / f"{name}.d/f").write_text("below\n")
    url = f"file://{bench.files}/caf%E9"
    attempt = bench.sh(
        "cat /f /d/* /vol/d/* /below/f",
        volumes=["/vol"],
        inputs=[
            {"url": url, "path": "/f"},
            {"url": str(bench.files / "d"), "path": "/d", "type": "DIRECTORY"},
            {"url": str(bench.files / "d"), "path": "/vol/d", "type": "DIRECTORY"},
            {"url": f"{url}.d", "path": "/below", "type": "DIRECTORY"},
        ],
    )
    assert attempt.state is TesState.COMPLETE, attempt.system_logs
    assert attempt.stdout() == "file\nin directory\nin directory\nbelow\n"


def test_a_directory_that_can_not_be_mounted_writable_is_refused(bench: Bench) -> None:
    (bench.files / os.fsdecode(b"caf\xe9")).mkdir()
    attempt = bench.run(
        {
            "inputs": [{"url": f"file://{bench.files}/caf%E9", "path": "/d", "type": "DIRECTORY"}],
            "executors": [bench.executor("echo new > /d/f")],
        },
        local_root=(LocalRoot(path=bench.files, rw=True),),
    )
    assert attempt.failure_reason == "input_failed"
    assert f"the input {bench.files}/caf\ufffd lies in a writable root" in attempt.system_logs


def test_a_stdout_can_not_be_led_out_of_the_mounts(bench: Bench) -> None:
    victim = bench.files / "victim"
    victim.write_text("untouched")
    attempt = bench.run(
        {
            "volumes": ["/vol"],
            "executors": [
                bench.executor(f"ln -s {victim} /vol/log"),
                bench.executor("echo overwritten", stdout="/vol/log"),
            ],
        }
    )
    assert attempt.state is TesState.SYSTEM_ERROR
    assert attempt.failure_reason == "invalid_mounts"
    assert victim.read_text() == "untouched"


def test_scratch_may_be_reached_through_a_link(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "scratch").symlink_to("real")
    attempt = bench.run(
        {
            "executors": [
                bench.executor("echo x | tee /o/f", stdout="/o/log"),
                bench.executor("cat; ls /c", stdin="/o/log"),
            ],
            "inputs": [{"path": "/c/in", "content": "c"}],
            "volumes": ["/c"],
            "outputs": [output(bench, "/o", "o", type="DIRECTORY")],
        },
        scratch_dir=tmp_path / "scratch",
    )
    assert attempt.state is TesState.COMPLETE, attempt.system_logs
    assert attempt.stdout(1) == "x\nin\n"
    assert (bench.files / "o/log").read_text() == (bench.files / "o/f").read_text() == "x\n"


def test_an_older_longer_output_leaves_no_old_bytes(bench: Bench) -> None:
    (bench.files / "f").write_text("a long old content")
    bench.sh("printf new > /out/f", outputs=[output(bench, "/out/f", "f")])
    assert (bench.files / "f").read_text() == "new"


def test_one_file_may_be_two_outputs(bench: Bench) -> None:
    bench.sh(
        "echo x > /out/f",
        outputs=[output(bench, "/out/f", "a"), output(bench, "/out", "b", type="DIRECTORY")],
    )
    (bench.files / "a").write_text("changed")
    assert (bench.files / "b/f").read_text() == "x\n"


def test_a_directory_output_in_a_volume_is_there(bench: Bench) -> None:
    attempt = bench.sh(
        "touch /vol/out/f",
        volumes=["/vol"],
        outputs=[output(bench, "/vol/out", "out", type="DIRECTORY")],
    )
    assert attempt.state is TesState.COMPLETE
    assert (bench.files / "out/f").exists()


def test_paths_that_belong_to_the_kernel_are_refused(bench: Bench) -> None:
    attempt = bench.sh("true", outputs=[output(bench, "/proc/x/f", "f")])
    assert attempt.failure_reason == "invalid_mounts"
    assert "/proc/x" in attempt.system_logs


def test_an_input_that_is_neither_file_nor_directory_is_refused(bench: Bench) -> None:
    path = Path("/tmp") / f"raytes-test-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        (bench.files / "link").symlink_to(path)
        attempt = bench.run(
            {
                "inputs": [{"url": str(path), "path": "/in/s"}],
                "executors": [bench.executor("true")],
            },
            local_root=(LocalRoot(path=Path("/tmp")),),
        )
        path.unlink()
    assert attempt.failure_reason == "input_failed"
