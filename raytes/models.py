"""The documents of TES 1.1 and of GA4GH service-info 1.0, as the specifications define them.

Reading follows JSON to the letter: a number is no string, a string is no integer, and 4.0 is
the integer 4. Fields that the specification doesn't know are ignored, and `null` is the same
as an absent field. Writing (`to_json`, `to_dict`) shows what was set and nothing else.

The rules which the specification states in words (paths are absolute, an input has a URL or
content …) are in `raytes.api.rules`: these classes also hold documents of other servers.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AnyUrl,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    Strict,
    UrlConstraints,
    ValidationError,
    model_validator,
)
from pydantic.main import IncEx

BASE_PATH = "/ga4gh/tes/v1"
"""Where the specification has the API on a server."""

JsonObject = dict[str, Any]
"""A JSON object as Python has it: strings, numbers, booleans, None, lists and dicts."""


def _whole(value: Any) -> Any:
    """JSON knows one kind of number: 4.0 is the integer 4."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _empty_for_null(value: Any) -> Any:
    """Clients send `null` for a tag without a value."""
    if isinstance(value, dict):
        return {key: "" if item is None else item for key, item in value.items()}
    return value


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1), BeforeValidator(_whole)]
Tags = Annotated[dict[str, str], BeforeValidator(_empty_for_null)]
Timestamp = Annotated[AwareDatetime, Strict(False), AfterValidator(_utc)]
Url = Annotated[AnyUrl, Strict(False), UrlConstraints(preserve_empty_path=True)]

_READ_ONLY: dict[str, JsonValue] = {"readOnly": True}


def first_mistake(error: ValidationError) -> str:
    """The first of what kept a document from being read: its place, and what is wrong there."""
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


class Document(BaseModel):
    """A JSON object of the API.

    A field counts as set when it was in the document that was read, given to the constructor
    or assigned later. Fields that were not set, and those that are None, are absent from the
    JSON: a client finds what it sent and no defaults, and an empty string stays an empty string.
    The one exception is `type` of an input or output, which the server has to fill in.
    """

    model_config = ConfigDict(strict=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {name: value for name, value in data.items() if value is not None}
        return data

    def to_dict(self, *, include: IncEx | None = None, exclude: IncEx | None = None) -> JsonObject:
        """The document as JSON values, or what `include` and `exclude` leave of it."""
        return self.model_dump(
            mode="json", include=include, exclude=exclude, exclude_unset=True, exclude_none=True
        )

    def to_json(self, *, include: IncEx | None = None, exclude: IncEx | None = None) -> bytes:
        """The document as JSON in UTF-8, or what `include` and `exclude` leave of it."""
        return self.model_dump_json(
            include=include, exclude=exclude, exclude_unset=True, exclude_none=True
        ).encode()


class TesState(StrEnum):
    """The state of a task, as the server defines it. Only the server sets it."""

    UNKNOWN = "UNKNOWN"
    """Not known: the safe default of a document that doesn't say."""
    QUEUED = "QUEUED"
    """Waiting for resources."""
    INITIALIZING = "INITIALIZING"
    """Given to a runner, which stages inputs and pulls images."""
    RUNNING = "RUNNING"
    """The inputs are there and the first executor has been started."""
    PAUSED = "PAUSED"
    """Paused by the system. raytes never pauses a task."""
    COMPLETE = "COMPLETE"
    """The executors have ended without error and the outputs are uploaded."""
    EXECUTOR_ERROR = "EXECUTOR_ERROR"
    """An executor failed: in general, it exited with a code that is not zero."""
    SYSTEM_ERROR = "SYSTEM_ERROR"
    """Stopped by an error of the system and not of an executor: a failed upload, a full disk."""
    CANCELED = "CANCELED"
    """Canceled by the user, and what it used is released."""
    PREEMPTED = "PREEMPTED"
    """Stopped by the system, which took the node back. raytes tries such a task again."""
    CANCELING = "CANCELING"
    """Canceled by the user, and what it uses is still being released."""


class TesFileType(StrEnum):
    """Whether an input or output is a file or a directory.

    The client need not say; the server fills the value in once it knows.
    """

    FILE = "FILE"
    DIRECTORY = "DIRECTORY"


FileType = Annotated[TesFileType, Strict(False)]
State = Annotated[TesState, Strict(False)]


class TesExecutor(Document):
    """A command to be run in a container, and its environment."""

    image: str = Field(
        description="Name of the container image, as it is given to the container engine.",
        examples=["ubuntu:20.04", "quay.io/aptible/ubuntu"],
    )
    command: list[str] = Field(
        description="The program and its arguments (argv). No shell takes part.",
        examples=[["/bin/md5", "/data/file1"]],
    )
    workdir: str | None = Field(
        default=None,
        description="The directory that the command is run in. Default: the image's own.",
        examples=["/data/"],
    )
    stdin: str | None = Field(
        default=None,
        description="Absolute path inside the container of the file that is piped to the "
        "command's stdin.",
        examples=["/data/file1"],
    )
    stdout: str | None = Field(
        default=None,
        description="Absolute path inside the container of the file that the command's stdout "
        "is written to.",
        examples=["/tmp/stdout.log"],  # noqa: S108
    )
    stderr: str | None = Field(
        default=None,
        description="Absolute path inside the container of the file that the command's stderr "
        "is written to.",
        examples=["/tmp/stderr.log"],  # noqa: S108
    )
    env: dict[str, str] | None = Field(
        default=None,
        description="Environment variables, on top of the image's own.",
        examples=[{"BLASTDB": "/data/GRC38", "HMMERDB": "/data/hmmer"}],
    )
    ignore_error: bool | None = Field(
        default=None,
        description="Record an exit code that is not zero and go on with the next executor. "
        "Default: the task ends at the first error.",
    )


class TesExecutorLog(Document):
    """What is known of the run of an executor."""

    start_time: str | None = Field(
        default=None,
        description="When the executor started, in RFC 3339.",
        examples=["2020-10-02T10:00:00-05:00"],
    )
    end_time: str | None = Field(
        default=None,
        description="When the executor ended, in RFC 3339.",
        examples=["2020-10-02T11:00:00-05:00"],
    )
    stdout: str | None = Field(
        default=None,
        description="The end of stdout, for convenience. For the whole of it, set the "
        "executor's `stdout` and make that file an output.",
    )
    stderr: str | None = Field(
        default=None,
        description="The end of stderr, for convenience. For the whole of it, set the "
        "executor's `stderr` and make that file an output.",
    )
    exit_code: Int32 = Field(
        description="The command's exit code; -1 while the command is running.",
    )


class TesInput(Document):
    """A file or directory that is there before the first executor starts."""

    name: str | None = Field(default=None, description="The user's name for it.")
    description: str | None = Field(default=None, description="The user's words about it.")
    url: str | None = Field(
        default=None,
        description="URL in long-term storage. Required, unless `content` is set.",
        examples=[
            "s3://my-object-store/file1",
            "gs://my-bucket/file2",
            "file:///path/to/my/file",
            "/path/to/my/file",
        ],
    )
    path: str = Field(
        description="Absolute path inside the container.",
        examples=["/data/file1"],
    )
    type: FileType = Field(default=TesFileType.FILE, description="FILE or DIRECTORY.")
    content: str | None = Field(
        default=None,
        description="The file's content itself, written as UTF-8. If it is not empty, `url` is "
        "ignored; empty and without `url`, it is an empty file.",
    )
    streamable: bool | None = Field(
        default=None,
        description="A stream instead of a copy would do: the command reads the file once, from "
        "its beginning to its end.",
    )

    def model_post_init(self, context: Any, /) -> None:
        self.model_fields_set.add("type")


class TesOutput(Document):
    """A file, a directory, or files by wildcards, that are kept after the last executor."""

    name: str | None = Field(default=None, description="The user's name for it.")
    description: str | None = Field(default=None, description="The user's words about it.")
    url: str = Field(
        description="URL in long-term storage where it is put. If `path` has wildcards, the "
        "directory that the matching files are put into.",
        examples=[
            "s3://my-object-store/file1",
            "gs://my-bucket/file2",
            "file:///path/to/my/file",
        ],
    )
    path: str = Field(
        description="Absolute path inside the container, also with the wildcards of POSIX "
        "(IEEE Std 1003.1-2017, 2.13).",
        examples=["/data/outfile"],
    )
    path_prefix: str | None = Field(
        default=None,
        description="What is cut from the beginning of each matching path; the rest is appended "
        "to `url`. Required if `path` has wildcards, else ignored.",
    )
    type: FileType = Field(default=TesFileType.FILE, description="FILE or DIRECTORY.")

    def model_post_init(self, context: Any, /) -> None:
        self.model_fields_set.add("type")


class TesOutputFileLog(Document):
    """One file that was uploaded. A directory is listed file by file."""

    url: str = Field(
        description="URL of the file in long-term storage.", examples=["s3://bucket/file.txt"]
    )
    path: str = Field(description="Absolute path of the file inside the container.")
    size_bytes: str = Field(
        description="Size of the file in bytes; a string, because JSON has no 64-bit integers.",
        examples=["1024"],
    )


class TesResources(Document):
    """What a task asks for."""

    cpu_cores: Int32 | None = Field(default=None, description="Number of CPUs.", examples=[4])
    preemptible: bool | None = Field(
        default=None,
        description="May run on nodes that can be taken away at any time (spot instances).",
        examples=[False],
    )
    ram_gb: FiniteFloat | None = Field(
        default=None, description="Memory in gigabytes (GB, 10^9 bytes).", examples=[8]
    )
    disk_gb: FiniteFloat | None = Field(
        default=None, description="Disk space in gigabytes (GB, 10^9 bytes).", examples=[40]
    )
    zones: list[str] | None = Field(
        default=None,
        description="The zones that the task may run in.",
        examples=[["us-west-1"]],
    )
    backend_parameters: dict[str, str] | None = Field(
        default=None,
        description="Options of this server; their keys are listed in service-info, and their "
        "case doesn't matter. Those it doesn't know are dropped, with a line in the system logs.",
        examples=[{"VmSize": "Standard_D64_v3"}],
    )
    backend_parameters_strict: bool = Field(
        default=False,
        description="Refuse the task if a backend parameter is not supported.",
        examples=[False],
    )


class TesTaskLog(Document):
    """One attempt at a task."""

    logs: list[TesExecutorLog] = Field(
        description="One entry for each executor that was started, in their order."
    )
    metadata: dict[str, str] | None = Field(
        default=None,
        description="What the server has to add, strings to strings.",
        examples=[{"host": "worker-001", "slurmm_id": "123456"}],
    )
    start_time: str | None = Field(
        default=None,
        description="When the attempt started, in RFC 3339.",
        examples=["2020-10-02T10:00:00-05:00"],
    )
    end_time: str | None = Field(
        default=None,
        description="When the attempt ended, in RFC 3339.",
        examples=["2020-10-02T11:00:00-05:00"],
    )
    outputs: list[TesOutputFileLog] = Field(
        description="The files that were uploaded, those of directories one by one."
    )
    system_logs: list[str] | None = Field(
        default=None,
        description="What the system has to say about the attempt, a line each: where it ran, "
        "why it failed. Only in the FULL view.",
    )


class TesTask(Document):
    """A task: what the client asks for, and what became of it.

    The MINIMAL view of a task has `id` and `state` only and so, without its executors, is not
    a TesTask by the specification's own words.
    """

    id: str | None = Field(
        default=None,
        description="The task's identifier; set by the server.",
        examples=["job-0012345"],
        json_schema_extra=_READ_ONLY,
    )
    state: State = Field(
        default=TesState.UNKNOWN,
        description="The task's state; set by the server.",
        json_schema_extra=_READ_ONLY,
    )
    name: str | None = Field(default=None, description="The user's name for the task.")
    description: str | None = Field(
        default=None, description="The user's words about the task, for documentation."
    )
    inputs: list[TesInput] | None = Field(
        default=None,
        description="What is there before the first executor starts.",
        examples=[[{"url": "s3://my-object-store/file1", "path": "/data/file1"}]],
    )
    outputs: list[TesOutput] | None = Field(
        default=None,
        description="What is uploaded to long-term storage after the last executor.",
        examples=[
            [{"path": "/data/outfile", "url": "s3://my-object-store/outfile-1", "type": "FILE"}]
        ],
    )
    resources: TesResources | None = Field(default=None, description="What the task asks for.")
    executors: list[TesExecutor] = Field(
        description="The commands, run one after the other with the same inputs and volumes. "
        "The first that fails ends the task, unless it has `ignore_error`."
    )
    volumes: list[str] | None = Field(
        default=None,
        description="Directories that the executors share: empty at first, at the same path in "
        "each.",
        examples=[["/vol/A/"]],
    )
    tags: Tags | None = Field(
        default=None,
        description="The user's own keys and values, by which tasks can be listed.",
        examples=[{"WORKFLOW_ID": "cwl-01234", "PROJECT_GROUP": "alice-lab"}],
    )
    logs: list[TesTaskLog] | None = Field(
        default=None,
        description="One entry for each attempt, the last one last; set by the server.",
        json_schema_extra=_READ_ONLY,
    )
    creation_time: str | None = Field(
        default=None,
        description="When the task was created, in RFC 3339; set by the server.",
        examples=["2020-10-02T10:00:00-05:00"],
        json_schema_extra=_READ_ONLY,
    )


class TesCreateTaskResponse(Document):
    """The answer to the creation of a task."""

    id: str = Field(description="The task's identifier.")


class TesCancelTaskResponse(Document):
    """The answer to the cancellation of a task: an empty object."""


class TesListTasksResponse(Document):
    """One page of tasks."""

    tasks: list[TesTask] = Field(description="The tasks, in the view that was asked for.")
    next_page_token: str | None = Field(
        default=None,
        description="What to send as `page_token` for the next page; absent on the last one.",
    )


class Artifact(StrEnum):
    """The API that a TES server implements."""

    tes = "tes"


class ServiceType(Document):
    """The type of a GA4GH service."""

    group: str = Field(
        description="Namespace in reverse domain name format.", examples=["org.ga4gh"]
    )
    artifact: str = Field(
        description="Name of the API or GA4GH specification.", examples=["beacon"]
    )
    version: str = Field(description="Version of the API or specification.", examples=["1.0.0"])


class TesServiceType(ServiceType):
    """The type of a TES server."""

    artifact: Annotated[Artifact, Strict(False)] = Field(
        description="Name of the GA4GH specification.", examples=["tes"]
    )


class Organization(Document):
    """Who offers a service."""

    name: str = Field(description="The organization's name.", examples=["My organization"])
    url: Url = Field(description="The organization's website.", examples=["https://example.com"])


class Service(Document):
    """A GA4GH service, by service-info 1.0."""

    id: str = Field(
        description="The service's identifier, in reverse domain name notation.",
        examples=["org.ga4gh.myservice"],
    )
    name: str = Field(description="The service's name for people.", examples=["My project"])
    type: ServiceType = Field(description="The service's type.")
    description: str | None = Field(
        default=None,
        description="What the service is, for people.",
        examples=["This service provides..."],
    )
    organization: Organization = Field(description="Who offers the service.")
    contactUrl: str | None = Field(
        default=None,
        description="URL of a contact form, or an email address as a mailto URL.",
        examples=["mailto:support@example.com"],
    )
    documentationUrl: Url | None = Field(
        default=None,
        description="URL of the service's documentation.",
        examples=["https://docs.myservice.example.com"],
    )
    createdAt: Timestamp | None = Field(
        default=None,
        description="When the service was first deployed, in RFC 3339 (UTC).",
        examples=["2019-06-04T12:58:19Z"],
    )
    updatedAt: Timestamp | None = Field(
        default=None,
        description="When the service was last deployed, in RFC 3339 (UTC).",
        examples=["2019-06-04T12:58:19Z"],
    )
    environment: str | None = Field(
        default=None,
        description="prod, test, dev, staging or another word.",
        examples=["test"],
    )
    version: str = Field(
        description="The version of the service itself, not of the API.", examples=["1.0.0"]
    )


class TesServiceInfo(Service):
    """A TES server, and what it offers."""

    type: TesServiceType = Field(description="The service's type.")
    storage: list[str] | None = Field(
        default=None,
        description="Some of the storage locations that tasks may use.",
        examples=[["file:///path/to/local/funnel-storage", "s3://ohsu-compbio-funnel/storage"]],
    )
    tesResources_backend_parameters: list[str] | None = Field(
        default=None,
        description="The keys of `backend_parameters` that the server supports.",
        examples=[["VmSize"]],
    )
