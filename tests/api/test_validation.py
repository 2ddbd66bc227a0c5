import gzip
import json
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytes.api.validation import FieldError, InvalidDocument, Submission, parse_task
from raytes.models import (
    TesExecutor,
    TesFileType,
    TesInput,
    TesOutput,
    TesResources,
    TesTask,
)
from tests.task_documents import JsonObject, json_values, submissions, with_types

EXECUTOR: JsonObject = {"image": "alpine", "command": ["true"]}
MEGABYTE = 10**6

MISSING = object()


def only_s3(url: str) -> str | None:
    return None if url.startswith("s3://") else "is not in a store that is enabled (s3)"


def whole_number(value: str) -> str | None:
    return None if value.isdecimal() else "must be a whole number"


def anything(_: str) -> None:
    return None


def parse(body: bytes, content_type: str | None = "application/json", **options: Any) -> Submission:
    limits = {
        "max_document_bytes": 32 * MEGABYTE,
        "max_content_bytes": 4 * MEGABYTE,
        "check_input_url": only_s3,
        "check_output_url": only_s3,
        "supported_parameters": {"max_retries": whole_number},
    }
    return parse_task(body, content_type, **{**limits, **options})


def submit(options: JsonObject | None = None, **fields: Any) -> Submission:
    document = {"executors": [EXECUTOR], **fields}
    document = {name: value for name, value in document.items() if value is not MISSING}
    return parse(orjson.dumps(document), **(options or {}))


def mistakes(options: JsonObject | None = None, **fields: Any) -> dict[str, str]:
    """The mistakes of a document by their fields; none where it is accepted."""
    try:
        submit(options, **fields)
    except InvalidDocument as error:
        return {mistake.field: mistake.message for mistake in error.errors}
    return {}


def input_at(path: str, **fields: Any) -> JsonObject:
    return {"path": path, "url": "s3://b/k", **fields}


def output_at(path: str, **fields: Any) -> JsonObject:
    return {"path": path, "url": "s3://b/k", **fields}


# The body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b'{"name": "\xff"}',
        b'{"name": "\\ud800"}',
        b'{"resources": {"ram_gb": 1e400}}',
        b'{"resources": {"ram_gb": NaN}}',
        b'{"resources": {"cpu_cores": ' + b"9" * 5000 + b"}}",
        b'{"unknown": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"null",
        b"[]",
        b'"a task"',
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_body_that_is_no_json_object_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(InvalidDocument) as caught:
        parse(body)
    assert [mistake.field for mistake in caught.value.errors] == [""]


def test_a_compressed_body_is_refused_in_its_own_words() -> None:
    with pytest.raises(InvalidDocument) as refused:
        parse(gzip.compress(orjson.dumps({"executors": [EXECUTOR]})))
    assert [mistake.field for mistake in refused.value.errors] == [""]
    assert "compressed (gzip)" in refused.value.errors[0].message


BODY = orjson.dumps({"executors": [EXECUTOR]})


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON; charset=utf-8", "application/json;charset=UTF-8", None],
)
def test_json_is_accepted_by_its_content_type_or_without_one(content_type: str | None) -> None:
    assert parse(BODY, content_type).task.executors[0].image == "alpine"


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; b=1"]
)
def test_another_content_type_is_refused_by_its_name(content_type: str) -> None:
    with pytest.raises(InvalidDocument, match=content_type.partition(";")[0]):
        parse(BODY, content_type)


def test_a_document_may_have_just_the_configured_size() -> None:
    assert parse(BODY, max_document_bytes=len(BODY))
    with pytest.raises(InvalidDocument, match=f"at most {len(BODY) - 1}"):
        parse(BODY, max_document_bytes=len(BODY) - 1)


def test_of_a_key_given_twice_the_last_one_counts() -> None:
    submission = parse(b'{"name":"a","name":"b","executors":[{"image":"i","command":["c"]}]}')
    assert submission.task.name == "b"


# What is kept of a document


@given(submissions)
def test_a_valid_document_is_kept_as_it_was_sent(document: JsonObject) -> None:
    submission = parse(orjson.dumps(document), check_input_url=anything, check_output_url=anything)
    kept = submission.task.to_dict()
    expected = with_types(document)
    for item in expected.get("inputs", []):
        item["type"] = "FILE" if item.get("content") else item["type"]
    if "backend_parameters" in expected.get("resources", {}):
        expected["resources"] = {**expected["resources"], "backend_parameters": {}}
    assert kept == expected


@pytest.mark.parametrize("value", [None, 5, "text", [], {}])
@pytest.mark.parametrize("name", ["id", "state", "logs", "creation_time"])
def test_the_servers_own_fields_are_ignored_whatever_they_are(name: str, value: Any) -> None:
    assert submit(**{name: value}).task.to_dict() == {"executors": [EXECUTOR]}


def test_null_is_accepted_for_every_optional_field() -> None:
    nulls = dict.fromkeys(["name", "inputs", "outputs", "resources", "volumes", "tags"])
    executor = {**EXECUTOR, **dict.fromkeys(["workdir", "stdin", "stdout", "stderr", "env"])}
    assert submit(**nulls, executors=[executor]).task.to_dict() == {"executors": [EXECUTOR]}


def test_content_is_a_file_whatever_type_was_sent() -> None:
    task = submit(inputs=[{"path": "/in", "content": "x", "type": "DIRECTORY"}]).task
    assert task.inputs is not None
    assert task.inputs[0].type is TesFileType.FILE


# Mistakes in one field


@pytest.mark.parametrize("executors", [MISSING, None, []])
def test_a_task_without_executors_is_refused(executors: Any) -> None:
    assert set(mistakes(executors=executors)) == {"executors"}


@pytest.mark.parametrize(
    ("executor", "field"),
    [
        ({"image": ""}, "image"),
        ({"image": " "}, "image"),
        ({"image": "a\0b"}, "image"),
        ({"image": 5}, "image"),
        ({"image": None}, "image"),
        ({"command": []}, "command"),
        ({"command": None}, "command"),
        ({"command": "true"}, "command"),
        ({"command": [""]}, "command[0]"),
        ({"command": ["a", 1]}, "command[1]"),
        ({"command": ["a", "b\0"]}, "command[1]"),
        ({"command": ["a", None]}, "command[1]"),
        ({"workdir": "data"}, "workdir"),
        ({"workdir": ""}, "workdir"),
        ({"workdir": "/a/../b"}, "workdir"),
        ({"stdin": "in.txt"}, "stdin"),
        ({"stdout": "./out"}, "stdout"),
        ({"stdout": "/"}, "stdout"),
        ({"stderr": "/a\0"}, "stderr"),
        ({"env": {"A=B": "c"}}, "env.A=B"),
        ({"env": {"": "c"}}, "env"),
        ({"env": {"A\0": "c"}}, "env.A\0"),
        ({"env": {"A": "\0"}}, "env.A"),
        ({"env": {"A": 1}}, "env.A"),
        ({"ignore_error": "yes"}, "ignore_error"),
    ],
)
def test_a_mistake_in_an_executor_is_found_at_its_field(executor: JsonObject, field: str) -> None:
    found = mistakes(executors=[EXECUTOR, {**EXECUTOR, **executor}])
    assert set(found) == {f"executors[1].{field}"}


def test_empty_arguments_after_the_program_are_fine() -> None:
    assert not mistakes(executors=[{**EXECUTOR, "command": ["printf", "", "\n", "$;"]}])


def test_the_working_directory_may_be_the_root() -> None:
    assert not mistakes(executors=[{**EXECUTOR, "workdir": "/"}])


WRONG_PATHS = ["", "a", "a/b", "./a", "/..", "/a/../b", "/a/..", "/a\0b", "/", "//", "/./", "/."]
RIGHT_PATHS = ["/a", "/a..b", "/..a", "/a../b", "/a/", "//a", "/a/./b", "/ä ö", "/a#%20"]


@pytest.mark.parametrize("path", WRONG_PATHS)
def test_a_path_that_cant_be_mounted_is_refused_everywhere(path: str) -> None:
    found = mistakes(inputs=[input_at(path)], outputs=[output_at(path)], volumes=[path])
    assert set(found) == {"inputs[0].path", "outputs[0].path", "volumes[0]"}


@pytest.mark.parametrize("path", RIGHT_PATHS)
def test_any_other_absolute_path_is_accepted_everywhere(path: str) -> None:
    assert not mistakes(inputs=[input_at(path)], outputs=[output_at(path)], volumes=[path])


@pytest.mark.parametrize("name", ["cpu_cores", "ram_gb", "disk_gb"])
@pytest.mark.parametrize("amount", [-1, 1e30, 10**30, "4", True, [4]])
def test_an_amount_that_no_machine_has_or_no_number_is_refused(name: str, amount: Any) -> None:
    body = f'{{"executors":[{{"image":"i","command":["c"]}}],"resources":{{"{name}":%s}}}}'
    value = str(amount) if isinstance(amount, int) and amount > 2**64 else None
    with pytest.raises(InvalidDocument) as caught:
        parse((body % (value or orjson.dumps(amount).decode())).encode())
    assert [mistake.field for mistake in caught.value.errors] == [f"resources.{name}"]


def test_more_memory_than_ray_can_count_is_refused() -> None:
    assert not mistakes(resources={"ram_gb": 922_337, "disk_gb": 922_338})
    assert mistakes(resources={"ram_gb": 922_338}) == {
        "resources.ram_gb": "must not be greater than 922337"
    }


@pytest.mark.parametrize("cores", [0, 1, 4.0, 1000, 2**31 - 1])
def test_any_whole_number_of_cpus_is_a_valid_wish(cores: float) -> None:
    assert not mistakes(resources={"cpu_cores": cores, "ram_gb": 0, "disk_gb": 0.5})


# Inputs


@pytest.mark.parametrize("source", [{}, {"url": ""}, {"url": None, "content": None}])
def test_an_input_needs_a_url_or_content(source: JsonObject) -> None:
    assert set(mistakes(inputs=[{"path": "/in", **source}])) == {"inputs[0].url"}


@pytest.mark.parametrize("source", [{}, {"url": ""}, {"url": None}])
def test_empty_content_without_a_url_is_an_empty_file(source: JsonObject) -> None:
    task = submit(inputs=[{"path": "/in", "content": "", **source}]).task
    assert task.inputs is not None
    assert task.inputs[0].content == ""


def test_a_url_that_cant_be_used_is_refused_with_the_reason() -> None:
    reason = "is not in a store that is enabled (s3)"
    found = mistakes(
        inputs=[{"path": "/in", "url": "ftp://h/f", "content": ""}],
        outputs=[output_at("/out", url="ftp://h/f"), output_at("/out", url="")],
    )
    assert found == {
        "inputs[0].url": reason,
        "outputs[0].url": reason,
        "outputs[1].url": "must not be empty",
    }


def test_the_url_of_an_input_with_content_is_ignored() -> None:
    assert not mistakes(inputs=[{"path": "/in", "url": "ftp://h/f", "content": "x"}])


def test_content_is_measured_in_bytes_of_utf_8() -> None:
    def inputs(content: str) -> list[JsonObject]:
        return [{"path": "/in", "content": content}]

    options = {"max_content_bytes": 4}
    assert not mistakes(options, inputs=inputs("ää"))
    assert set(mistakes(options, inputs=inputs("ääa"))) == {"inputs[0].content"}


@pytest.mark.parametrize("same", ["/d/a", "/d//a", "/d/a/", "/d/./a", "//d/a"])
def test_two_inputs_at_one_path_are_refused(same: str) -> None:
    found = mistakes(inputs=[input_at("/d/a"), input_at("/d/b"), input_at(same)])
    assert found == {"inputs[2].path": "is the path of inputs[0] too"}


@pytest.mark.parametrize(
    "file",
    [
        {"path": "/d", "content": "x"},
        {"path": "/d", "content": ""},
        {"path": "/d/", "url": "s3://b/k", "type": "FILE"},
    ],
)
def test_an_input_below_one_that_is_a_file_is_refused(file: JsonObject) -> None:
    items = [input_at("/d/a/b"), input_at("/d-a"), file, input_at("/d.a/b"), input_at("/d/c")]
    found = mistakes(inputs=items)
    assert found == dict.fromkeys(
        ["inputs[0].path", "inputs[4].path"], "is below inputs[2], which is a file"
    )


@pytest.mark.parametrize("directory", [{"type": "DIRECTORY"}, {}])
def test_an_input_may_lie_below_one_that_is_or_may_be_a_directory(directory: JsonObject) -> None:
    assert not mistakes(inputs=[input_at("/d", **directory), input_at("/d/a")])


# Outputs


def test_one_path_may_be_uploaded_to_two_urls() -> None:
    assert not mistakes(outputs=[output_at("/out"), output_at("/out", url="s3://b/other")])


@pytest.mark.parametrize("pattern", ["/out/*", "/out/a?", "/out/[ab]", "/o*", r"/out/\\*"])
def test_a_wildcard_needs_a_path_prefix(pattern: str) -> None:
    assert set(mistakes(outputs=[output_at(pattern)])) == {"outputs[0].path_prefix"}
    assert set(mistakes(outputs=[output_at(pattern, path_prefix="")])) == {"outputs[0].path_prefix"}


@pytest.mark.parametrize("pattern", [r"/out/\*", r"/out/\?\[", "/out/]", "/out/!"])
def test_without_a_wildcard_the_path_prefix_is_ignored(pattern: str) -> None:
    assert not mistakes(outputs=[output_at(pattern)])
    assert not mistakes(outputs=[output_at(pattern, path_prefix="/elsewhere")])


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [("/out/*.txt", "/out"), ("/out/*.txt", "/out/"), ("/out/s*", "/out/s"), (r"/\*/*", "/*/")],
)
def test_a_path_prefix_is_the_literal_beginning_of_the_path(pattern: str, prefix: str) -> None:
    assert not mistakes(outputs=[output_at(pattern, path_prefix=prefix)])


@pytest.mark.parametrize("prefix", ["/other/", "out/", "/out/x", "/out/*.txt"])
def test_a_path_prefix_that_is_no_prefix_is_refused(prefix: str) -> None:
    found = mistakes(outputs=[output_at("/out/*.txt", path_prefix=prefix)])
    assert set(found) == {"outputs[0].path_prefix"}


# Backend parameters


def test_known_parameters_are_kept_under_their_canonical_keys() -> None:
    submission = submit(resources={"backend_parameters": {"Max_Retries": "3"}})
    assert submission.task.to_dict()["resources"] == {"backend_parameters": {"max_retries": "3"}}
    assert submission.warnings == ()


def test_unknown_parameters_are_dropped_with_a_warning_each() -> None:
    asked = {"VmSize": "large", "a\nb": "1", "max_retries": "0"}
    submission = submit(resources={"backend_parameters": asked})
    assert submission.task.to_dict()["resources"] == {"backend_parameters": {"max_retries": "0"}}
    assert ["VmSize" in line for line in submission.warnings] == [True, False]
    assert all("\n" not in line for line in submission.warnings)


def test_strictness_makes_unknown_parameters_mistakes() -> None:
    found = mistakes(
        resources={
            "backend_parameters": {"VmSize": "large", "max_retries": "1"},
            "backend_parameters_strict": True,
        }
    )
    assert set(found) == {"resources.backend_parameters.VmSize"}
    assert "max_retries" in found["resources.backend_parameters.VmSize"]


def test_a_wrong_value_of_a_known_parameter_is_refused() -> None:
    found = mistakes(resources={"backend_parameters": {"MAX_RETRIES": "many"}})
    assert found == {"resources.backend_parameters.MAX_RETRIES": "must be a whole number"}


def test_a_known_parameter_given_twice_in_different_case_is_refused() -> None:
    asked = {"max_retries": "1", "MAX_RETRIES": "2"}
    found = mistakes(resources={"backend_parameters": asked})
    assert set(found) == {"resources.backend_parameters.MAX_RETRIES"}


# All mistakes at once


def test_mistakes_of_types_and_of_rules_are_reported_together() -> None:
    found = mistakes(
        name=5,
        executors=[{"image": "", "command": ["a", 1, "\0"], "stdin": "x"}, 7],
        inputs=[{"url": 5, "path": "a"}, {"content": 5}, None],
        outputs=[{"path": "/x*"}],
        resources={"cpu_cores": "4", "ram_gb": -1},
        tags={"foo": 5, "bar": None},
        volumes={"/a": {}},
    )
    assert found == {
        "name": "must be a string, not the number 5",
        "executors[0].image": "must not be empty",
        "executors[0].command[1]": "must be a string, not the number 1",
        "executors[0].command[2]": "must not contain a NUL character",
        "executors[0].stdin": "must be an absolute path: it has to begin with /",
        "executors[1]": "must be an object, not the number 7",
        "inputs[0].url": "must be a string, not the number 5",
        "inputs[0].path": "must be an absolute path: it has to begin with /",
        "inputs[1].content": "must be a string, not the number 5",
        "inputs[1].path": "is required",
        "inputs[2]": "must be an object, not null",
        "outputs[0].url": "is required",
        "outputs[0].path_prefix": "is required where the path has wildcards",
        "resources.cpu_cores": "must be an integer, not a string",
        "resources.ram_gb": "must not be negative",
        "tags.foo": "must be a string, not the number 5",
        "volumes": "must be an array, not an object",
    }


def test_a_field_is_reported_once() -> None:
    with pytest.raises(InvalidDocument) as caught:
        submit(executors=[{**EXECUTOR, "env": {"A=\0": "\0"}}])
    assert len(caught.value.errors) == 1


def test_the_error_names_each_field() -> None:
    error = InvalidDocument([FieldError("executors", "is required"), FieldError("", "it is wrong")])
    assert str(error) == "executors: is required; it is wrong"


def test_the_report_doesnt_grow_with_what_was_sent() -> None:
    with pytest.raises(InvalidDocument) as caught:
        submit(tags={"k" * MEGABYTE: 5}, resources={"backend_parameters": {"x" * MEGABYTE: 5}})
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "document",
    [
        b'{"executors":[{"image":"i","command":[' + b"0," * 200_000 + b"0]}]}",
        b'{"volumes":[' + b'"",' * 200_000 + b'""]}',
        b'{"inputs":[' + b"0," * 600_000 + b"0]}",
    ],
    ids=["types", "rules", "values"],
)
def test_a_flood_of_mistakes_costs_little(document: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidDocument) as caught:
            parse(document)
        assert len(caught.value.errors) <= 1_000
        assert tracemalloc.get_traced_memory()[1] < 200 * MEGABYTE
    finally:
        tracemalloc.stop()


# Anything at all


def assert_understood(body: bytes, content_type: str | None) -> None:
    """The body is a task, or there is something to say about it."""
    try:
        understood: Submission | InvalidDocument = parse(body, content_type)
    except InvalidDocument as error:
        understood = error
    assert isinstance(understood, Submission) or understood.errors


@given(st.binary(), st.none() | st.just("application/json") | st.text())
def test_any_bytes_are_a_task_or_an_invalid_document(body: bytes, content_type: str | None) -> None:
    assert_understood(body, content_type)


fields = st.sampled_from(
    sorted(
        {"unknown"}.union(
            TesTask.model_fields,
            TesInput.model_fields,
            TesOutput.model_fields,
            TesExecutor.model_fields,
            TesResources.model_fields,
        )
    )
)
task_like = st.recursive(
    json_values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(fields, task_like))
def test_any_json_object_is_a_task_or_an_invalid_document(document: JsonObject) -> None:
    assert_understood(json.dumps(document).encode(), None)


@given(submissions, st.data())
def test_a_valid_task_with_one_value_replaced_breaks_nothing(
    document: JsonObject, data: st.DataObject
) -> None:
    holder: Any = document
    while True:
        key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else holder))
        inner = holder[key] if isinstance(holder, dict) else key
        if isinstance(inner, dict) and inner and data.draw(st.booleans()):
            holder = inner
            continue
        if isinstance(holder, dict):
            holder[key] = data.draw(json_values)
        break
    assert_understood(json.dumps(document).encode(), None)


# What is searched or handed to Ray


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "a\0"}, "name"),
        ({"tags": {"a\0b": "c"}}, "tags.a\0b"),
        ({"tags": {"a": "\0"}}, "tags.a"),
    ],
)
def test_what_tasks_are_found_by_has_no_nul(fields: JsonObject, field: str) -> None:
    assert mistakes(**fields) == {field: "must not contain a NUL character"}


@pytest.mark.parametrize("zone", ["", "a b", "-a", "a)", "é", "z" * 64, "a\n"])
def test_a_zone_that_no_node_can_be_in_is_refused(zone: str) -> None:
    assert set(mistakes(resources={"zones": ["us-west1-a", zone]})) == {"resources.zones[1]"}
