"""What a section of the settings may say."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from raytes.storage.known_options import mistakes
from raytes.storage.schemes import SCHEMES, Scheme

HOW_TO = Path(__file__).parents[2] / "docs/how-to/storage.md"


@pytest.mark.parametrize(
    ("section", "wrong", "right"),
    [
        ("s3://bucket", "endpont_url", "endpoint_url"),
        ("S3://", "profil", "profile"),
        ("gs://bucket", "tokn", "token"),
        ("abfs://data", "acount_name", "account_name"),
        ("az://data", "exclude_cli_credentials", "exclude_cli_credential"),
        ("https://host", "header", "headers"),
        ("drs://host", "endpoint", "endpoint_url"),
        ("ftp://host", "user_name", "username"),
        ("sftp://host", "client_key", "client_keys"),
    ],
)
def test_a_mistyped_option_is_named_with_what_was_meant_and_without_its_value(
    section: str, wrong: str, right: str
) -> None:
    (sentence,) = mistakes({section: {wrong: "s3cr3t-!"}, "s3://other": {"anon": True}})
    assert f'[storage."{section}"] has an option {wrong!r}' in sentence
    assert f"did you mean {right!r}?" in sentence
    assert "s3cr3t-!" not in sentence
    assert mistakes({section: {right: True if right.startswith("exclude") else "s3cr3t-!"}}) == []


@pytest.mark.parametrize(
    ("section", "table", "wrong", "right"),
    [
        ("s3://bucket", "config_kwargs", "read_timout", "read_timeout"),
        ("s3://bucket", "config_kwargs", "connector_arg", "connector_args"),
        ("s3://bucket", "client_kwargs", "region", "region_name"),
        ("gs://bucket", "session_kwargs", "trust_environ", "trust_env"),
        ("https://host", "client_kwargs", "tiemout", "timeout"),
        ("drs://host", "client_kwargs", "aut", "auth"),
    ],
)
def test_a_mistyped_option_in_a_table_is_named_too(
    section: str, table: str, wrong: str, right: str
) -> None:
    values = {"read_timeout": 60, "trust_env": True}
    taken = values.get(right, "s3cr3t-!")
    (sentence,) = mistakes({section: {table: {wrong: "s3cr3t-!", right: taken}}})
    assert f"in its {table} an option {wrong!r}" in sentence
    assert f"did you mean {right!r}?" in sentence
    assert "s3cr3t-!" not in sentence


def test_a_table_that_is_something_else_is_a_mistake() -> None:
    (sentence,) = mistakes({"https://host": {"client_kwargs": "s3cr3t-!"}})
    assert sentence.endswith("has an option 'client_kwargs' that isn't a table")


@pytest.mark.parametrize("section", ["lab-bucket", "gopher://host", "s3:/bucket", "file.lab"])
def test_a_section_that_no_url_can_lie_under_is_a_mistake(section: str) -> None:
    (sentence,) = mistakes({section: {}})
    assert f'[storage."{section}"] is called after no URL' in sentence


def test_files_have_no_options() -> None:
    (sentence,) = mistakes({"file:///data": {"rw": True}})
    assert "local_root" in sentence


@pytest.mark.parametrize("scheme", ["s3", "gs", "abfs", "https", "drs", "ftp"])
def test_what_every_filesystem_of_fsspec_takes_is_no_mistake(scheme: str) -> None:
    options = {"use_listings_cache": True, "skip_instance_cache": False, "max_paths": 10}
    assert mistakes({f"{scheme}://place": options}) == []


@pytest.mark.parametrize(
    ("section", "option"),
    [
        ("s3://bucket", "batch_size"),
        ("gs://bucket", "batch_size"),
        ("abfs://data", "shared_cache_tenant_id"),
        ("abfs://data", "shared_cache_username"),
        ("abfs://data", "visual_studio_code_tenant_id"),
        ("ftp://host", "host"),
        ("ftp://host", "port"),
    ],
)
def test_what_a_library_takes_beside_its_signature_is_no_mistake(section: str, option: str) -> None:
    assert mistakes({section: {option: "value"}}) == []


@pytest.mark.parametrize(
    ("section", "option", "right"),
    [
        ("s3://bucket", "anon", True),
        ("s3://bucket", "skip_instance_cache", True),
        ("az://data", "anon", True),
        ("abfs://data", "exclude_broker_credential", True),
        ("abfs://data", "require_envvar", False),
        ("https://host", "verify_ssl", False),
        ("ftp://host", "tls", True),
        ("sftp://host", "disable_trivial_auth", True),
    ],
)
def test_what_is_true_or_false_is_no_word(section: str, option: str, right: bool) -> None:
    (sentence,) = mistakes({section: {option: "false"}})  # which Python would take for true
    assert f"has an option {option!r} that is neither true nor false" in sentence
    assert mistakes({section: {option: right}}) == []


@pytest.mark.parametrize("elsewhere", [{"env": "NAME"}, {"file": "/path"}])
@pytest.mark.parametrize(
    ("section", "option"), [("s3://bucket", "anon"), ("ftp://host", "timeout")]
)
def test_what_is_no_word_is_not_taken_from_where_there_are_only_words(
    section: str, option: str, elsewhere: dict[str, str]
) -> None:
    (sentence,) = mistakes({section: {option: elsewhere}})
    assert f"has an option {option!r} from the environment or a file" in sentence
    assert sentence.endswith("true, false and numbers have to stand in the settings")


@pytest.mark.parametrize(
    ("section", "options"),
    [
        ("ftp://host", {"timeout": "s3cr3t-!"}),
        ("ftp://host", {"timeout": True}),
        ("abfs://data", {"process_timeout": "s3cr3t-!"}),
        ("s3://bucket", {"config_kwargs": {"read_timeout": "s3cr3t-!"}}),
        ("s3://bucket", {"config_kwargs": {"connect_timeout": [1]}}),
    ],
)
def test_what_is_a_number_is_no_word(section: str, options: dict[str, Any]) -> None:
    (sentence,) = mistakes({section: options})
    assert sentence.endswith("timeout' that isn't a number")


@pytest.mark.parametrize(
    ("section", "options"),
    [
        ("s3://bucket", {"config_kwargs": {"read_timeout": 0.5, "parameter_validation": True}}),
        ("ftp://host", {"password": {"env": "NAME"}}),
        ("gs://bucket", {"requester_pays": "my-project"}),
        ("gs://bucket", {"requester_pays": True}),
        ("sftp://host", {"login_timeout": "2m", "port": 22}),
    ],
)
def test_a_value_that_may_be_right_is_no_mistake(section: str, options: dict[str, Any]) -> None:
    assert mistakes({section: options}) == []


def test_a_library_that_can_not_be_imported_is_said_of_its_own_section(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert mistakes({"sftp://host": {}}) == []  # so it is imported, and will be again
    monkeypatch.delattr("raytes.storage.sftp")
    monkeypatch.setitem(sys.modules, "raytes.storage.sftp", None)
    broken, mistyped = mistakes({"sftp://host": {"username": "s3cr3t-!"}, "s3://": {"sekret": 1}})
    assert broken.startswith('the section [storage."sftp://host"] needs the package raytes[sftp], ')
    assert "can't be imported" in broken
    assert "s3cr3t-!" not in broken
    assert "has an option 'sekret'" in mistyped


def test_of_what_is_not_installed_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEMES, "sftp", Scheme("no_such_module", "no-such-package"))
    assert mistakes({"sftp://host": {"anything": 1}}) == []


def test_the_how_to_makes_no_mistakes() -> None:
    text = "\n".join(re.findall(r"^```toml\n(.*?)^```", HOW_TO.read_text(), re.M | re.S))
    sections = re.split(r"^(?=\[storage)", text, flags=re.M)[1:]
    assert len(sections) > 10
    for section in sections:
        assert mistakes(tomllib.loads(section)["storage"]) == []
