"""What a task may touch."""

from collections.abc import Callable
from pathlib import Path

import pytest

from raytes.config import LocalRoot, Settings
from raytes.errors import ForbiddenURL
from raytes.storage import Storage

Make = Callable[..., Storage]


@pytest.fixture
def storage(make_storage: Make) -> Storage:
    return make_storage()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory beside the root, whose name begins like the root's."""
    path = tmp_path / "root-and-more"
    path.mkdir()
    (path / "secret").write_text("secret")
    return path


def test_a_path_under_the_root_is_allowed_whether_it_exists_or_not(
    storage: Storage, root: Path
) -> None:
    (root / "there").write_text("")
    assert storage.local_path(str(root / "there")) == root / "there"
    assert storage.local_path(f"file://{root}/not/there%20yet") == root / "not/there yet"
    assert storage.local_path(str(root)) == root


def test_another_scheme_has_no_local_path(storage: Storage) -> None:
    assert storage.local_path("s3://bucket/key") is None


@pytest.mark.parametrize(
    "attack",
    [
        "/etc/passwd",
        "file:////etc/passwd",
        "file:///etc/passwd",
        "{root}/../root-and-more/secret",
        "file://{root}/%2e%2e/root-and-more/secret",
        "file://{root}%2F..%2Froot-and-more/secret",
        "{root}-and-more/secret",
        "{root}/link/secret",
        "{root}/link",
        "{root}/chain/secret",
        "{root}/link/../../etc/passwd",
        "/",
        "//",
        "/proc/self/root/etc/passwd",
        "/proc/self/cwd",
    ],
)
def test_a_path_that_leaves_the_roots_is_refused_at_submission_and_at_use(
    storage: Storage, root: Path, outside: Path, attack: str
) -> None:
    (root / "link").symlink_to(outside)
    (root / "chain").symlink_to("link")
    url = attack.format(root=root)

    for refusal in (storage.refusal_of_input(url), storage.refusal_of_output(url)):
        assert refusal is not None
        assert str(root) in refusal
    with pytest.raises(ForbiddenURL):
        storage.local_path(url)


@pytest.mark.parametrize("url", ["", "file://host/x", "a/b", "/x\0y", "s3://", "/\ud800"])
def test_what_is_no_url_is_refused_with_a_sentence(storage: Storage, url: str) -> None:
    assert "can't be used" in (storage.refusal_of_input(url) or "")
    assert "can't be used" in (storage.refusal_of_output(url) or "")


def test_a_link_that_stays_under_the_root_is_followed(storage: Storage, root: Path) -> None:
    (root / "real").mkdir()
    (root / "link").symlink_to("real")
    assert storage.local_path(f"{root}/link/x") == root / "real/x"


def test_a_root_that_is_a_link_allows_what_it_leads_to(
    make_storage: Make, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "alias").symlink_to(root)
    storage = make_storage(local_root=[LocalRoot(path=tmp_path / "alias")])
    assert storage.local_path(f"{tmp_path}/alias/x") == root / "x"
    assert storage.local_path(f"{root}/x") == root / "x"


def test_a_loop_of_links_leads_nowhere(storage: Storage, root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    path = storage.local_path(f"{root}/a/x")
    assert path is not None
    assert path.is_relative_to(root)


def test_the_services_own_state_is_out_of_reach_though_it_lies_under_a_root(
    tmp_path: Path,
) -> None:
    storage = Storage(Settings(state_dir=tmp_path / "state", local_root=[LocalRoot(path=tmp_path)]))
    assert storage.refusal_of_input(f"{tmp_path}/state/raytes.db")
    assert storage.refusal_of_input(str(tmp_path))  # a mount of it would show the state
    assert storage.refusal_of_input(f"{tmp_path}/data") is None


@pytest.mark.parametrize("own", ["scratch_dir", "cache_dir"])
def test_the_files_of_running_tasks_and_the_cache_are_out_of_reach_though_they_lie_under_a_root(
    make_storage: Make, root: Path, own: str
) -> None:
    (root / "link").symlink_to("node/raytes")
    storage = make_storage(**{own: root / "node/raytes"})
    for path in ("node/raytes/service/task/file", "node/raytes", "node", "link/file", ""):
        for refusal in (
            storage.refusal_of_input(f"{root}/{path}"),
            storage.refusal_of_output(f"{root}/{path}"),
        ):
            assert "keeps its own files" in (refusal or "")
    assert storage.refusal_of_output(f"{root}/node/raytes-results/out") is None
    on_purpose = make_storage(
        local_root=[LocalRoot(path=root / "node/raytes/data")], **{own: root / "node/raytes"}
    )
    assert on_purpose.refusal_of_output(f"{root}/node/raytes/data/out") is None


def test_a_root_that_is_the_state_directory_shows_nothing_of_it(tmp_path: Path) -> None:
    storage = Storage(Settings(state_dir=tmp_path, local_root=[LocalRoot(path=tmp_path)]))
    assert storage.refusal_of_input(f"{tmp_path}/raytes.db")


def test_the_default_root_inside_of_the_state_directory_is_allowed(tmp_path: Path) -> None:
    storage = Storage(Settings(state_dir=tmp_path))
    assert storage.refusal_of_output(f"{tmp_path}/files/out") is None
    assert storage.refusal_of_output(f"{tmp_path}/raytes.db")


def test_a_scheme_is_usable_if_it_is_known_enabled_and_installed(make_storage: Make) -> None:
    storage = make_storage(schemes=["s3"])
    assert storage.refusal_of_input("s3://bucket/key") is None
    assert "not enabled" in (storage.refusal_of_input("gs://bucket/key") or "")
    assert "not enabled" in (storage.refusal_of_input("/some/path") or "")
    assert "not known" in (storage.refusal_of_input("gopher://host/x") or "")


@pytest.mark.parametrize("scheme", ["http", "https", "ftp", "drs"])
def test_hosts_are_allowed_and_denied_by_the_settings(make_storage: Make, scheme: str) -> None:
    storage = make_storage(
        schemes=[scheme],
        allow_hosts=["*.example.org"],
        deny_hosts=["secret.*"],
        storage={f"{scheme}://secret.example.org": {}},
    )
    assert storage.refusal_of_input(f"{scheme}://data.example.org/x") is None
    assert storage.refusal_of_input(f"{scheme}://secret.example.org/x") is None  # has a section
    for host in ("secret.lab.example.org", "data.example.com"):
        assert "`allow_hosts`" in (storage.refusal_of_input(f"{scheme}://{host}/x") or "")


def test_an_enabled_scheme_without_its_package_names_the_package(
    make_storage: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raytes.storage import schemes

    monkeypatch.setitem(schemes.SCHEMES, "gs", schemes.Scheme("no_such_module", "no-such-package"))
    storage = make_storage(schemes=["file", "gs"])
    assert "no-such-package" in (storage.refusal_of_input("gs://bucket/key") or "")
    assert "gs://" not in storage.locations()


def test_locations_are_what_can_be_used(make_storage: Make, tmp_path: Path) -> None:
    storage = make_storage(local_root=[LocalRoot(path=tmp_path / "a b")], schemes=["s3", "file"])
    assert storage.locations() == [f"file://{tmp_path}/a%20b", "s3://"]


def test_only_a_root_that_is_not_shared_needs_the_serving_node(
    make_storage: Make, tmp_path: Path
) -> None:
    own, shared = tmp_path / "own", tmp_path / "own/shared"
    storage = make_storage(local_root=[LocalRoot(path=own), LocalRoot(path=shared, shared=True)])
    assert storage.needs_serving_node([f"{own}/x"])
    assert storage.needs_serving_node(["s3://bucket/key", f"file://{own}/x"])
    assert not storage.needs_serving_node([f"{shared}/x", "s3://bucket/key", "/etc/passwd", "?"])


def test_touching_files_only_imports_no_object_store() -> None:
    import subprocess
    import sys

    program = (
        "import sys; from raytes.config import Settings; from raytes.storage import Storage; "
        "s = Storage(Settings()); s.locations(); s.refusal_of_input('s3://bucket/key'); "
        "sys.exit(bool({'s3fs', 'gcsfs', 'aiobotocore', 'aiohttp'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
