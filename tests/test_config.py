import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from raytes import config
from raytes.config import LocalRoot, Settings


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("RAYTES_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "raytes.toml"
    path.write_text(text)
    return path


def test_every_option_has_a_default_and_a_description() -> None:
    assert config.load().port == 8000
    assert all(field.description for field in Settings.model_fields.values())


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = toml(tmp_path, 'port = 1\nhost = "file"\nname = "file"\n')
    monkeypatch.setenv("RAYTES_PORT", "2")
    monkeypatch.setenv("RAYTES_HOST", "environment")
    settings = config.load(file, port=3)
    assert (settings.port, settings.host, settings.name) == (3, "environment", "file")


def test_an_option_that_was_not_given_on_the_command_line_changes_nothing(
    tmp_path: Path,
) -> None:
    assert config.load(toml(tmp_path, "port = 1\n"), port=None).port == 1


def test_the_file_can_be_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYTES_CONFIG", str(toml(tmp_path, "port = 1\n")))
    assert config.load().port == 1


def test_a_file_is_read_for_one_call_only(tmp_path: Path) -> None:
    assert config.load(toml(tmp_path, "port = 1\n")).port == 1
    assert config.load().port == 8000


def test_a_file_that_isnt_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        config.load(tmp_path / "nowhere.toml")


def test_a_file_that_isnt_toml_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        config.load(toml(tmp_path, "port: 1"))


@pytest.mark.parametrize(
    "option",
    [
        {"port": 70_000},
        {"name": "two words"},
        {"max_content_bytes": 1},
        {"pull_policy": "sometimes"},
        {"no_such_option": 1},
        {"default_cpu_cores": 0},
        {"default_ram_gb": 922_338},
        {"default_disk_gb": 1e10},
        {"shm_size_gb": 1e-10},
        {"pids_limit": 2**22 + 1},
    ],
)
def test_a_value_that_an_option_doesnt_take_is_an_error(option: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(option))):
        config.load(**option)


def test_directories_are_absolute(tmp_path: Path) -> None:
    settings = config.load(state_dir="state", scratch_dir="scratch", local_root="data")
    assert settings.state_dir == tmp_path / "state"
    assert settings.scratch == tmp_path / "scratch"
    assert settings.local_root == (LocalRoot(path=tmp_path / "data"),)


def test_what_is_not_set_lies_under_the_state_directory(tmp_path: Path) -> None:
    settings = config.load(state_dir="state")
    assert settings.database_file == tmp_path / "state/raytes.db"
    assert settings.scratch == tmp_path / "state/scratch"
    assert settings.local_root == (LocalRoot(path=tmp_path / "state/files"),)


def test_local_roots_are_separated_like_a_path_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAYTES_LOCAL_ROOT", "/a:/b")
    assert config.load().local_root == (LocalRoot(path=Path("/a")), LocalRoot(path=Path("/b")))


@pytest.mark.parametrize("given", ["file,s3", "file, s3,", '["file", "s3"]'])
def test_lists_have_commas_between_their_parts_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    for name in ("SCHEMES", "CORS_ORIGINS", "ALLOW_HOSTS", "DENY_HOSTS"):
        monkeypatch.setenv(f"RAYTES_{name}", given)
    settings = config.load()
    lists = settings.schemes, settings.cors_origins, settings.allow_hosts, settings.deny_hosts
    assert lists == (("file", "s3"),) * 4


def test_a_list_may_be_empty_and_a_pattern_may_begin_with_a_bracket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAYTES_SCHEMES", "")
    monkeypatch.setenv("RAYTES_ALLOW_HOSTS", "[ab].example.org")
    assert config.load().schemes == ()
    assert config.load().allow_hosts == ("[ab].example.org",)


def test_stores_are_json_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYTES_STORAGE", '{"s3://lab": {"anon": true}}')
    assert config.load().storage == {"s3://lab": {"anon": True}}


def mistaken() -> set[int | str]:
    """The settings that are wrong."""
    try:
        config.load()
    except ValidationError as error:
        return {mistake["loc"][0] for mistake in error.errors()}
    return set()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_whatever_is_wrong_in_the_environment_is_told_of_the_setting(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"RAYTES_{name.upper()}", "{")
    assert mistaken() <= {name}


TIMES = [
    "retention_age", "retry_delay", "drain_timeout", "infeasible_grace", "idle_timeout",
    "lane_slice", "max_runtime", "stop_grace",
]  # fmt: skip


@pytest.mark.parametrize("name", TIMES)
def test_a_time_may_have_a_unit(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"RAYTES_{name.upper()}", "1.5h")
    assert getattr(config.load(), name) == 5400


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("time", ["-5", "-5s", "nan", "inf", "Infinity", "1e300", "99999w", "soon"])
def test_a_time_is_neither_negative_nor_endless(
    monkeypatch: pytest.MonkeyPatch, name: str, time: str
) -> None:
    monkeypatch.setenv(f"RAYTES_{name.upper()}", time)
    with pytest.raises(ValidationError, match=name):
        config.load()


@pytest.mark.parametrize("name", ["default_ram_gb", "default_disk_gb", "shm_size_gb"])
@pytest.mark.parametrize("size", ["nan", "inf"])
def test_a_size_is_a_number(monkeypatch: pytest.MonkeyPatch, name: str, size: str) -> None:
    monkeypatch.setenv(f"RAYTES_{name.upper()}", size)
    with pytest.raises(ValidationError, match=name):
        config.load()


def test_local_roots_are_a_list_on_the_command_line() -> None:
    roots = config.load(local_root=[Path("/a"), "/b"]).local_root
    assert [root.path for root in roots] == [Path("/a"), Path("/b")]


def test_a_local_root_in_the_file_can_be_writable_and_shared(tmp_path: Path) -> None:
    file = toml(tmp_path, 'local_root = [{path = "/a", rw = true}, {path = "/b", shared = true}]')
    assert config.load(file).local_root == (
        LocalRoot(path=Path("/a"), rw=True),
        LocalRoot(path=Path("/b"), shared=True),
    )


def test_no_local_root_lies_in_one_that_tasks_may_write_to(tmp_path: Path) -> None:
    """They could put a link in its place: what that leads to would be a local root then."""
    (tmp_path / "outer/inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("outer/inner")
    outer = LocalRoot(path=tmp_path / "outer", rw=True)
    for inner in ("outer/inner", "outer/not/yet", "link"):
        with pytest.raises(ValidationError, match="where tasks may write"):
            config.load(local_root=[outer, LocalRoot(path=tmp_path / inner)])
        config.load(local_root=[LocalRoot(path=tmp_path / "outer"), tmp_path / inner])
    config.load(local_root=[outer, LocalRoot(path=tmp_path / "outer2", rw=True)])


def test_stores_are_tables_in_the_file(tmp_path: Path) -> None:
    file = toml(tmp_path, '[storage."s3://lab"]\nendpoint_url = "http://127.0.0.1:9000"\n')
    assert config.load(file).storage == {"s3://lab": {"endpoint_url": "http://127.0.0.1:9000"}}


def test_a_node_may_have_places_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    service = Settings(state_dir=tmp_path, cache_size_gb=5, idle_timeout=3)
    assert service.on_this_node() == service
    monkeypatch.setenv("RAYTES_SCRATCH_DIR", "/fast/scratch")
    monkeypatch.setenv("RAYTES_CACHE_SIZE_GB", "100")
    monkeypatch.setenv("RAYTES_IDLE_TIMEOUT", "99")  # the service's, not a node's
    node = service.on_this_node()
    assert (node.scratch, node.cache) == (Path("/fast/scratch"), tmp_path / "cache")
    assert (node.cache_size_gb, node.idle_timeout) == (100, 3)
