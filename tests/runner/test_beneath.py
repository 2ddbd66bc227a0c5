from pathlib import Path

import pytest

from raytes.runner.beneath import Namespace, Outside
from raytes.runner.mounts import Bind


@pytest.fixture
def namespace(tmp_path: Path) -> Namespace:
    for name in ("work/sub", "data", "nested"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "data/f").write_text("f")
    (tmp_path / "nested/n").write_text("n")
    (tmp_path / "secret").write_text("s")
    links = {
        "absolute": "/data/f",
        "relative": "../data/f",
        "host": str(tmp_path / "secret"),
        "up": "../../../../../../etc/passwd",
        "loop": "loop",
        "ring": "ring2",
        "ring2": "ring",
        "through": "/work/sub/back/absolute",
        "dangling": "nothing",
    }
    for name, target in links.items():
        (tmp_path / "work" / name).symlink_to(target)
    (tmp_path / "work/sub/back").symlink_to("..")
    return Namespace(
        [
            Bind(tmp_path / "work", "/work", writable=True),
            Bind(tmp_path / "data", "/data", writable=False),
            Bind(tmp_path / "nested", "/work/sub/mnt", writable=False),
        ]
    )


@pytest.mark.parametrize(
    "path", ["/data/f", "/work/absolute", "/work/relative", "/work/through", "/work/../data/f"]
)
def test_links_are_seen_as_the_container_sees_them(
    namespace: Namespace, tmp_path: Path, path: str
) -> None:
    assert namespace.resolve(path) == tmp_path / "data/f"


@pytest.mark.parametrize("path", ["/work/host", "/work/up", "/etc/passwd", "/work/../etc/passwd"])
def test_what_leaves_the_mounts_is_refused(namespace: Namespace, path: str) -> None:
    with pytest.raises(Outside):
        namespace.resolve(path)


@pytest.mark.parametrize("path", ["/work/loop", "/work/ring"])
def test_circles_end(namespace: Namespace, path: str) -> None:
    with pytest.raises(Outside, match="links"):
        namespace.resolve(path)


@pytest.mark.parametrize("path", ["/work/nothing", "/work/dangling", "/data/f/x"])
def test_what_is_not_there_is_none(namespace: Namespace, path: str) -> None:
    assert namespace.resolve(path) is None


def test_a_mount_in_a_mount_hides_what_it_lies_over(namespace: Namespace, tmp_path: Path) -> None:
    assert namespace.resolve("/work/sub/mnt/n") == tmp_path / "nested/n"
    assert "mnt" in namespace.names("/work/sub", namespace.resolve("/work/sub"))
    assert namespace.names("/", None) == ["data", "work"]


def test_a_file_in_place_of_a_directory_is_not_taken_for_an_empty_one(
    namespace: Namespace, tmp_path: Path
) -> None:
    with pytest.raises(NotADirectoryError):
        namespace.names("/data/f", tmp_path / "data/f")


def test_a_link_that_was_taken_out_of_a_container_leads_nowhere_on_the_node(
    tmp_path: Path,
) -> None:
    (tmp_path / "secret").write_text("s")
    (tmp_path / "taken").symlink_to(tmp_path)
    namespace = Namespace([Bind(tmp_path / "taken", "/out", writable=False)])
    for path in ("/out", "/out/secret"):
        with pytest.raises(Outside):
            namespace.resolve(path)
