import os

import pytest

from raytes.cli.arguments import input_of, output_of, pairs, state_of
from raytes.models import TesFileType


@pytest.mark.parametrize(
    ("argument", "url", "path"),
    [
        ("s3://bucket/reads.fq:/data/reads.fq", "s3://bucket/reads.fq", "/data/reads.fq"),
        ("file:///a/b:/c", "file:///a/b", "/c"),
        ("/a/b:/c", "/a/b", "/c"),
        ("http://host:8080/x:/data/x", "http://host:8080/x", "/data/x"),
        ("s3://bucket/a:b:/data/x", "s3://bucket/a:b", "/data/x"),
    ],
)
def test_an_input_is_split_before_its_absolute_path(argument: str, url: str, path: str) -> None:
    found = input_of(argument)

    assert (found.url, found.path, found.type) == (url, path, TesFileType.FILE)


def test_a_url_that_ends_in_a_slash_is_a_directory() -> None:
    assert input_of("s3://bucket/index/:/index").type is TesFileType.DIRECTORY


def test_a_relative_path_is_meant_from_the_working_directory() -> None:
    assert input_of("reads.fq:/data/reads.fq").url == os.path.abspath("reads.fq")
    assert output_of("/out/:results/").url == os.path.abspath("results") + "/"


def test_a_path_that_is_not_utf_8_is_named_by_a_file_url() -> None:
    assert input_of("/data/caf\udce9 1/:/data").url == "file:///data/caf%E9%201/"
    assert output_of("/out:caf\udce9").url == f"file://{os.path.abspath('caf')}%E9"


@pytest.mark.parametrize("argument", ["", "s3://bucket/key", "/data", ":/data", "a:b"])
def test_an_input_without_url_or_path_is_refused_by_name(argument: str) -> None:
    with pytest.raises(ValueError, match="is not of the form URL:PATH"):
        input_of(argument)


def test_an_output_is_split_after_its_path() -> None:
    output = output_of("/out/a.bam:s3://bucket/a.bam")

    assert output.to_dict() == {"path": "/out/a.bam", "url": "s3://bucket/a.bam", "type": "FILE"}


def test_a_path_that_ends_in_a_slash_is_a_directory() -> None:
    assert output_of("/out/:s3://bucket/out").type is TesFileType.DIRECTORY


@pytest.mark.parametrize(
    ("path", "prefix"),
    [("/out/*.bam", "/out/"), ("/out/run?/x", "/out/"), ("/out/s[12]/*", "/out/")],
)
def test_what_a_wildcard_finds_is_put_by_its_path_below_the_url(path: str, prefix: str) -> None:
    assert output_of(f"{path}:s3://bucket/out").path_prefix == prefix


@pytest.mark.parametrize("argument", ["", "/out", "/out:", "out:s3://bucket/out"])
def test_an_output_without_path_or_url_is_refused_by_name(argument: str) -> None:
    with pytest.raises(ValueError, match="is not of the form PATH:URL"):
        output_of(argument)


def test_a_pair_is_split_at_its_first_equals_sign() -> None:
    assert pairs(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}


@pytest.mark.parametrize("argument", ["A", "=1", ""])
def test_what_is_no_pair_is_refused_by_name(argument: str) -> None:
    with pytest.raises(ValueError, match="is not of the form KEY=VALUE"):
        pairs([argument])


def test_what_is_no_state_is_told_what_the_states_are() -> None:
    with pytest.raises(ValueError, match=r"'done' is no state; the states are .*COMPLETE"):
        state_of("done")
