import sys
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import SecretStr

from raytes.cli import main
from raytes.config import Settings


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that the service was asked to start with."""
    served: list[Settings] = []

    def serve(settings: Settings) -> int:
        served.append(settings)
        return 0

    module = ModuleType("raytes.serve")
    module.main = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "raytes.serve", module)
    return served


def serve(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as end:
        main(["serve", *arguments])
    return end.value.code


def test_options_become_settings(served: list[Settings], tmp_path: Path) -> None:
    roots = [tmp_path / "a", tmp_path / "b"]

    code = serve(
        "--host=0.0.0.0",
        "--port=0",
        "--name=lab",
        f"--state-dir={tmp_path}",
        *(f"--local-root={root}" for root in roots),
    )

    (settings,) = served
    assert code == 0
    assert (settings.host, settings.port, settings.name) == ("0.0.0.0", 0, "lab")
    assert settings.state_dir == tmp_path
    assert [root.path for root in settings.local_root] == roots


def test_what_is_not_given_is_left_to_the_configuration(
    served: list[Settings], tmp_path: Path
) -> None:
    config = tmp_path / "raytes.toml"
    config.write_text('port = 9000\nlocal_root = ["/data"]\n')

    assert serve(f"--config={config}", "--host=::1") == 0
    (settings,) = served
    assert (settings.host, settings.port) == ("::1", 9000)
    assert settings.local_root[0].path == Path("/data")


def test_each_setting_that_is_wrong_has_a_sentence_of_its_own(
    served: list[Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "raytes.toml"
    config.write_text("max_retries = -1\nmax_retrys = 3\n")

    assert serve(f"--config={config}", "--port=70000") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    for line, name in zip(sorted(lines), ("max_retries", "max_retrys", "port"), strict=True):
        assert line.startswith(f"raytes: the setting {name}: ")
    assert not served


def test_an_option_that_a_store_does_not_know_is_said_without_its_value(
    served: list[Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "raytes.toml"
    config.write_text('[storage."s3://lab"]\nsecrt = "the-secret"\n[storage.lab]\n')

    assert serve(f"--config={config}") == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("raytes: the section [storage.\"s3://lab\"] has an option 'secrt' ")
    assert "the-secret" not in first
    assert second.startswith('raytes: the section [storage."lab"] is called after no URL')
    assert not served


def test_a_scheme_that_nobody_knows_is_a_mistake(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYTES_SCHEMES", "file,htps,S3")
    assert serve() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("raytes: the setting schemes has 'htps'")
    assert "did you mean 'https'?" in line
    assert not served


def test_a_mistake_of_several_settings_together_is_said_without_their_values(
    served: list[Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "raytes.toml"
    config.write_text(
        'local_root = [{path = "/data", rw = true}, {path = "/data/references"}]\n'
        '[storage."s3://lab"]\nsecret = "the-secret"\n'
    )

    assert serve(f"--config={config}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("raytes: the settings: ")
    assert "/data/references lies in /data" in line
    assert "the-secret" not in line
    assert not served


@pytest.mark.parametrize("content", [None, b"port = ", b"name = '\xe9'"])
def test_a_configuration_that_can_not_be_read_is_a_mistake_in_usage(
    served: list[Settings],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
) -> None:
    config = tmp_path / "raytes.toml"
    if content is not None:
        config.write_bytes(content)

    assert serve(f"--config={config}") == 2
    assert str(config) in capsys.readouterr().err
    assert not served


def test_a_store_in_the_environment_that_is_no_json_is_told_without_its_secrets(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYTES_STORAGE", "s3://lab: {secret: hidden}")
    assert serve() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("raytes: the setting storage: ")
    assert "must be JSON" in line
    assert "hidden" not in line
    assert not served


URL = "postgresql://somebody@host/raytes"
WITH_PASSWORD = "postgresql://somebody:secret@host/raytes"


def test_a_database_may_be_on_the_command_line(served: list[Settings]) -> None:
    assert serve(f"--database={URL}") == 0
    assert served[0].database == SecretStr(URL)


@pytest.mark.parametrize("url", [WITH_PASSWORD, f"{URL}?password=secret"])
def test_a_password_may_not(
    served: list[Settings], capsys: pytest.CaptureFixture[str], url: str
) -> None:
    assert serve(f"--database={url}") == 2
    said = capsys.readouterr().err
    assert "everyone on this machine can read a command line" in " ".join(said.split())
    assert "secret" not in said
    assert not served


@pytest.mark.parametrize("url", ["postgresql://db:port/raytes", "postgresql://[::1/raytes"])
def test_a_database_whose_url_can_not_be_read_is_refused(
    served: list[Settings], capsys: pytest.CaptureFixture[str], url: str
) -> None:
    assert serve(f"--database={url}") == 2
    assert "the setting database: " in capsys.readouterr().err
    assert not served


def test_a_password_may_be_in_the_environment(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYTES_DATABASE", WITH_PASSWORD)
    assert serve() == 0
    assert served[0].database == SecretStr(WITH_PASSWORD)


@pytest.mark.parametrize(
    "url",
    [
        f"{URL}?password=secret",
        WITH_PASSWORD.replace("postgresql", "mysql"),
        "postgresql://raytes:secret@db:port/raytes",
        "postgresql://raytes:secret@[::1/raytes",
    ],
)
def test_a_database_that_is_none_is_refused_without_its_password(
    served: list[Settings],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    url: str,
) -> None:
    monkeypatch.setenv("RAYTES_DATABASE", url)
    assert serve() == 2
    said = capsys.readouterr().err
    assert "the setting database: " in said
    assert "secret" not in said
    assert not served
