"""The settings of a service: one object, each option documented where it is declared.

A value comes from, strongest first: the command line, the environment (`RAYTES_` and the
option's name in capitals), the TOML file given with `--config`, the default.
"""

import json
import os
import re
from contextlib import suppress
from itertools import permutations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    HttpUrl,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

GB = 10**9
"""Bytes in a gigabyte, as TES counts them (`ram_gb`, `disk_gb`)."""

MAX_CPU_CORES = 2**31 - 1
MAX_DISK_GB = (2**63 - 1) // GB
MAX_RAM_GB = MAX_DISK_GB // 10_000
"""The most that can be asked for. Bytes are counted in 64 bits, and Ray counts ten-thousandths
of what it is asked for: for memory, of bytes. Beyond it the count comes round to less than
nothing, which every node has."""

_MAX_PIDS = 2**22  # the kernel takes no higher limit


class LocalRoot(BaseModel, frozen=True, extra="forbid"):
    """A directory whose files tasks may read and write through `file://` URLs and bare paths."""

    path: Path
    rw: bool = Field(
        default=False,
        description="Mount DIRECTORY inputs of this root writable: tasks may then change them.",
    )
    shared: bool = Field(
        default=False,
        description="The same path on every node (NFS and the like). Else the root belongs to "
        "the node that serves, and tasks which use it are placed there.",
    )


def _as_roots(value: Any) -> Any:
    """`/a:/b`, a path, or a list of paths and tables, as in the environment, the CLI, TOML."""
    if isinstance(value, str):
        value = [part for part in value.split(os.pathsep) if part]
    if isinstance(value, list | tuple):
        return [{"path": item} if isinstance(item, str | Path) else item for item in value]
    return value


def _as_list(value: Any) -> Any:
    """`a,b` as a list, as in the environment; JSON is one too."""
    if not isinstance(value, str):
        return value
    if value.startswith("["):
        with suppress(ValueError):
            return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_as_list)]
"""Words with commas between them, or a list of them."""


def _as_table(value: Any) -> Any:
    """A table as JSON, as in the environment."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"must be JSON, {{...}}, where it isn't in a file: {error}") from None


_SECONDS_IN = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def as_seconds(value: Any) -> Any:
    """`90`, `"90"`, `"90s"`, `"15m"`, `"12h"`, `"30d"` and `"2w"` as seconds; else as it is."""
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", value)):
        return float(found[1]) * _SECONDS_IN[found[2]]
    return value


# Beyond what dates can be moved by, whoever gave a time has meant something else.
_CENTURY = 100 * 365 * 86_400

Duration = Annotated[
    float, BeforeValidator(as_seconds), Field(ge=0, le=_CENTURY, allow_inf_nan=False)
]
"""A time in seconds, or a number with one of the letters s, m, h, d, w; at most a century."""


class Settings(BaseSettings):
    """Everything that can be set of one service."""

    model_config = SettingsConfigDict(
        env_prefix="RAYTES_", extra="forbid", frozen=True, allow_inf_nan=False
    )

    # The service
    name: str = Field(
        default="raytes",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$",
        description="The service's name: its Ray namespace, its Serve application and a label on "
        "its containers. A cluster serves one at a time.",
    )
    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="The port to listen on; 0: any.")
    state_dir: Path = Field(
        default=Path("raytes-state"),
        description="The directory of the database, scratch and caches; not on a network "
        "filesystem.",
    )
    database: SecretStr | None = Field(
        default=None,
        description="Where tasks are kept, if not in a file of the state directory: "
        "`postgresql://user@host/database`, for a head node that can be replaced. The password "
        "may come with the URL, but not on the command line, or from PGPASSWORD or ~/.pgpass.",
    )
    local_root: Annotated[tuple[LocalRoot, ...], NoDecode, BeforeValidator(_as_roots)] = Field(
        default=(),
        description="The directories that `file://` URLs and bare paths may read and write. "
        "Default: `<state-dir>/files`.",
    )

    # What service-info says
    service_id: str = Field(
        default="io.github.raytes", description="The service's id, in reverse domain name notation."
    )
    service_name: str = Field(default="raytes", description="The name that service-info shows.")
    description: str = Field(
        default="GA4GH Task Execution Service on Ray and Podman",
        description="What service-info says of the service.",
    )
    organization_name: str = Field(default="raytes", description="Who offers the service.")
    organization_url: HttpUrl = Field(
        default=HttpUrl("https://example.com"), description="The website of who offers it."
    )
    contact_url: HttpUrl | None = Field(default=None, description="Where to get help.")
    documentation_url: HttpUrl | None = Field(
        default=None, description="Where the service is documented."
    )
    environment: str | None = Field(default=None, description="prod, test, dev, staging …")

    # Browsers
    cors_origins: Words = Field(
        default=(),
        description="The websites whose scripts may use the API, as scheme, host and port "
        "(`https://lab.example`); `*` is any. A service on loopback answers for their hosts "
        "too. Default: none.",
    )

    # Documents
    max_document_bytes: int = Field(
        default=32 * 2**20, ge=2**20, description="The largest task document accepted, in bytes."
    )
    max_content_bytes: int = Field(
        default=4 * 2**20,
        ge=128 * 2**10,
        description="The largest `content` of one input accepted, in bytes of UTF-8.",
    )

    max_queued: int | None = Field(
        default=None,
        ge=1,
        description="How many tasks may wait at once; a client that creates more is answered 429 "
        "and tries again later. Default: as many as the disk holds.",
    )

    # Ended tasks
    retention_age: Duration | None = Field(
        default=None,
        description="How long ended tasks are kept, in seconds or as `12h`, `30d`, `8w`. Default: "
        "for ever.",
    )
    retention_count: int | None = Field(
        default=None,
        ge=0,
        description="How many ended tasks are kept: the last ones to end. Default: all.",
    )

    # What a task gets that asks for nothing
    default_cpu_cores: int = Field(default=1, ge=1, le=MAX_CPU_CORES, description="CPUs.")
    default_ram_gb: float = Field(
        default=2.0, gt=0, le=MAX_RAM_GB, description="Memory, in GB of 10^9 bytes."
    )
    default_disk_gb: float = Field(
        default=0.0,
        ge=0,
        le=MAX_DISK_GB,
        description="Disk, in GB of 10^9 bytes; 0: as much as there is.",
    )

    # Attempts
    max_retries: int = Field(
        default=2, ge=0, description="Further attempts after one that failed for a system's cause."
    )
    retry_delay: Duration = Field(
        default=1.0,
        description="Seconds before the first retry; doubled for each that follows, up to 300.",
    )
    drain_timeout: Duration = Field(
        default=0.0,
        description="Seconds that running tasks are given to end when the service is stopped or "
        "their node is drained. What still runs then is run again, which uses up no retry.",
    )
    infeasible_grace: Duration = Field(
        default=300.0,
        description="Seconds that a task may wait for a node of a size which the cluster doesn't "
        "have (an autoscaler may add one). On a Ray that raytes started itself there is "
        "none, and 5 seconds are enough.",
    )

    # Runners
    idle_timeout: Duration = Field(
        default=10.0, description="Seconds that an idle runner keeps its resources leased."
    )
    lane_slice: Duration = Field(
        default=4.0,
        description="Seconds that runners of one resource shape go on while an older task of "
        "another shape waits for their resources. Each change of shape costs the start of a "
        "runner, about a second.",
    )
    max_pending_runners: int = Field(
        default=8, ge=1, description="Runners asked of Ray at once that it can't place yet."
    )

    # Containers
    network: Literal["default", "none", "host", "bridge"] = Field(
        default="default",
        description="The containers' network; `default` is what Podman is configured for. With "
        "`host` a task reaches whatever the node reaches, metadata services of a cloud included.",
    )
    entrypoint: Literal["none", "image"] = Field(
        default="none",
        description="Whether the ENTRYPOINT of an image is run, with the command as its arguments. "
        "The specification has it that the command's first word is the program.",
    )
    max_runtime: Duration | None = Field(
        default=None,
        gt=0,
        description="Seconds that a task's executors may take together. A task can ask for less. "
        "Default: as long as it takes.",
    )
    pids_limit: int = Field(
        default=4096,
        ge=1,
        le=_MAX_PIDS,
        description="How many processes and threads a container may have.",
    )
    shm_size_gb: float = Field(
        default=0.064,
        ge=1e-6,
        le=MAX_RAM_GB,
        description="The size of a container's `/dev/shm`, in GB of 10^9 bytes. What is in it "
        "counts as memory.",
    )
    pull_policy: Literal["missing", "always", "never"] = Field(
        default="missing", description="When an image is pulled from its registry."
    )
    podman_socket: Path | None = Field(
        default=None,
        description="The socket of a running Podman API service. Default: the one that "
        "CONTAINER_HOST names; else the node starts its own, or, where it has no Podman, uses "
        "the usual socket.",
    )
    scratch_dir: Path | None = Field(
        default=None,
        description="Where a node keeps the files of running tasks. Default: "
        "`<state-dir>/scratch`.",
    )
    cache_dir: Path | None = Field(
        default=None,
        description="Where a node keeps remote inputs for further tasks. Default: "
        "`<state-dir>/cache`.",
    )
    cache_size_gb: float = Field(
        default=20.0,
        ge=0,
        description="How much of them a node keeps, in GB of 10^9 bytes; 0: nothing.",
    )
    node_transfers: int = Field(
        default=64,
        ge=1,
        description="How many files a node moves from and to remote stores at once, for all its "
        "tasks together; of these one task moves at most 16.",
    )
    log_tail_bytes: int = Field(
        default=64 * 2**10,
        ge=0,
        description="How much of the end of stdout and of stderr an executor's log keeps, in "
        "bytes.",
    )
    stop_grace: Duration = Field(
        default=0.0,
        description="Seconds between SIGTERM and SIGKILL for the container of a cancelled task; "
        "0: SIGKILL at once.",
    )
    keep_scratch: bool = Field(
        default=False,
        description="Keep the directory with a failed attempt's files on its node, below "
        "`kept` in the scratch directory, for a person to look at and to remove. The task's "
        "system log says where it is.",
    )
    missing_outputs: Literal["error", "warn"] = Field(
        default="error",
        description="What a missing output means where all executors succeeded.",
    )

    # Data
    schemes: Words = Field(
        default=("file", "s3", "gs"), description="The URL schemes that tasks may use."
    )
    allow_hosts: Words = Field(
        default=(),
        description="The hosts that http, https, ftp and drs URLs may name, as patterns "
        "(`*.example.org`). Default: all but those in `deny_hosts`.",
    )
    deny_hosts: Words = Field(
        default=(),
        description="Hosts that such URLs may not name, as patterns. Loopback, link-local and "
        "metadata addresses are always denied, but for URLs that have a section `storage` of "
        "their own.",
    )
    storage: Annotated[dict[str, dict[str, Any]], NoDecode, BeforeValidator(_as_table)] = Field(
        default={},
        description="Options of a store by URL prefix (the longest that fits wins), in the words "
        "of its fsspec implementation.",
    )

    @field_validator("database")
    @classmethod
    def _postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        text = url.get_secret_value()
        if not text.startswith(("postgresql://", "postgres://")) or not _can_be_read(text):
            raise ValueError("takes a URL postgresql://user@host:port/database")
        if "password=" in text.partition("?")[2]:
            # There it would be shown with the URL.
            raise ValueError("takes a password before the host only: postgresql://user:password@…")
        return url

    @field_validator("state_dir", "scratch_dir", "cache_dir")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path if path is None else Path(os.path.abspath(path))

    @model_validator(mode="after")
    def _default_root(self) -> "Settings":
        roots = self.local_root or (LocalRoot(path=self.state_dir / "files"),)
        absolute = tuple(
            root.model_copy(update={"path": Path(os.path.abspath(root.path))}) for root in roots
        )
        object.__setattr__(self, "local_root", absolute)
        return self

    @model_validator(mode="after")
    def _no_root_in_a_writable_one(self) -> "Settings":
        for inner, outer in permutations(self.local_root, 2):
            if outer.rw and _is_inside(inner.path, outer.path):
                raise ValueError(
                    f"local_root: {inner.path} lies in {outer.path}, where tasks may write (rw): "
                    "one of them could put a link to anything in its place; keep them apart"
                )
        return self

    @property
    def database_file(self) -> Path:
        """The SQLite database, where `database` names no other."""
        return self.state_dir / "raytes.db"

    @property
    def scratch(self) -> Path:
        """The directory on each node that holds the files of running tasks."""
        return self.scratch_dir or self.state_dir / "scratch"

    @property
    def cache(self) -> Path:
        """The directory on each node that holds remote inputs for further tasks."""
        return self.cache_dir or self.state_dir / "cache"

    def on_this_node(self) -> "Settings":
        """These settings with what the environment of this process says of the node's own: where
        the node has its disks isn't the same on all.
        """
        return self.model_copy(update=_OfNode().model_dump(exclude_unset=True))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _ConfigFile(settings_cls)


def _can_be_read(url: str) -> bool:
    """Whether the URL of a database is one to SQLAlchemy."""
    from sqlalchemy import make_url  # brings what takes its time, and few need
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(url)
    except (ArgumentError, ValueError):
        return False
    return True


def _is_inside(path: Path, directory: Path) -> bool:
    """Whether a path leads into a directory, as it is written or with its links resolved."""
    real, real_directory = Path(os.path.realpath(path)), Path(os.path.realpath(directory))
    return directory in path.parents or real_directory in real.parents


class _OfNode(BaseSettings):
    """What may be another on each node, in the environment that Ray is started in there."""

    model_config = SettingsConfigDict(env_prefix="RAYTES_", extra="ignore")

    podman_socket: Path | None = None
    scratch_dir: Path | None = None
    cache_dir: Path | None = None
    cache_size_gb: float = Field(default=0, ge=0)
    node_transfers: int = Field(default=1, ge=1)

    @field_validator("scratch_dir", "cache_dir")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path if path is None else Path(os.path.abspath(path))


class _ConfigFile(TomlConfigSettingsSource):
    """The TOML file that `load` is reading, if any."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls, toml_file=_config_file)


_config_file: Path | None = None


def load(config: Path | None = None, **options: Any) -> Settings:
    """The settings from the command line's `options` (None: not given), environment and file.

    Raises:
        OSError: `config` isn't there, or can't be read.
        pydantic.ValidationError: a value is not what its option takes.
        tomllib.TOMLDecodeError, UnicodeDecodeError: `config` is not TOML.
    """
    global _config_file
    if config is None and (named := os.environ.get("RAYTES_CONFIG")):
        config = Path(named)
    if config is not None and not config.is_file():
        raise FileNotFoundError(f"there is no configuration file {config}")
    _config_file = config
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    finally:
        _config_file = None
