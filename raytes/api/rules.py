"""What a task document must obey beyond the types of its fields.

The rules look at plain JSON values and pass over those of a wrong type, which are reported
elsewhere: so the document's mistakes of both kinds are found in one go.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from raytes.api import parameters
from raytes.api.invalid import FieldError, below
from raytes.config import MAX_CPU_CORES, MAX_DISK_GB, MAX_RAM_GB
from raytes.models import JsonObject
from raytes.parameters import LABEL

_WILDCARDS = frozenset("*?[")

_MOST = {"cpu_cores": MAX_CPU_CORES, "ram_gb": MAX_RAM_GB, "disk_gb": MAX_DISK_GB}


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules with what this server adds to them: limits, stores and backend parameters.

    `check_input_url` and `check_output_url` say why a URL can't be used, or None.
    """

    max_content_bytes: int
    check_input_url: Callable[[str], str | None]
    check_output_url: Callable[[str], str | None]
    supported_parameters: parameters.Supported

    def broken_by(self, document: JsonObject) -> Iterator[FieldError]:
        """Every rule that the document breaks, in the order of its fields."""
        yield from _no_nul("name", document.get("name"))
        yield from self._inputs(document)
        for where, output in _objects(document, "outputs"):
            yield from self._output(where, output)
        yield from self._resources(document.get("resources"))
        if document.get("executors") == []:
            yield FieldError("executors", "must have at least one executor")
        for where, executor in _objects(document, "executors"):
            yield from _executor(where, executor)
        for index, volume in enumerate(_list(document.get("volumes"))):
            yield from _path(f"volumes[{index}]", volume)
        yield from _tags(document.get("tags"))

    def _inputs(self, document: JsonObject) -> Iterator[FieldError]:
        placed: list[_Placed] = []
        for where, item in _objects(document, "inputs"):
            yield from self._source(where, item)
            path = item.get("path")
            yield from _path(f"{where}.path", path)
            if isinstance(path, str) and not _wrong_with_path(path):
                placed.append(_Placed(where, normalised(path), _surely_file(item)))
        yield from _collisions(placed)

    def _source(self, where: str, item: JsonObject) -> Iterator[FieldError]:
        url, content = item.get("url"), item.get("content")
        if isinstance(content, str) and content:  # then `url` is ignored
            size = len(content.encode())
            if size > self.max_content_bytes:
                limit = self.max_content_bytes
                yield FieldError(
                    f"{where}.content", f"has {size} bytes; this server takes at most {limit}"
                )
        elif isinstance(url, str) and url:
            if wrong := self.check_input_url(url):
                yield FieldError(f"{where}.url", wrong)
        elif content is None and url in (None, ""):
            yield FieldError(f"{where}.url", "is required where there is no content")

    def _output(self, where: str, output: JsonObject) -> Iterator[FieldError]:
        url, path, prefix = output.get("url"), output.get("path"), output.get("path_prefix")
        if url == "":
            yield FieldError(f"{where}.url", "must not be empty")
        elif isinstance(url, str) and (wrong := self.check_output_url(url)):
            yield FieldError(f"{where}.url", wrong)
        yield from _path(f"{where}.path", path)
        if isinstance(path, str) and has_wildcard(path):
            yield from _prefix(f"{where}.path_prefix", path, prefix)

    def _resources(self, resources: Any) -> Iterator[FieldError]:
        if not isinstance(resources, dict):
            return
        for name, most in _MOST.items():
            yield from _amount(f"resources.{name}", resources.get(name), most)
        for index, zone in enumerate(_list(resources.get("zones"))):
            yield from _zone(f"resources.zones[{index}]", zone)
        asked = resources.get("backend_parameters")
        if isinstance(asked, dict):
            strings = {key: value for key, value in asked.items() if isinstance(value, str)}
            strict = resources.get("backend_parameters_strict") is True
            yield from parameters.mistakes(strings, self.supported_parameters, strict)


def normalised(path: str) -> str:
    """The absolute path without empty and `.` components and without a slash at its end."""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def has_wildcard(pattern: str) -> bool:
    """Whether there is a `*`, `?` or `[` in the pattern that no backslash escapes."""
    return _literal_beginning(pattern)[1]


def _executor(where: str, executor: JsonObject) -> Iterator[FieldError]:
    image = executor.get("image")
    if isinstance(image, str) and not image.strip():
        yield FieldError(f"{where}.image", "must not be empty")
    yield from _no_nul(f"{where}.image", image)
    command = executor.get("command")
    if command == []:
        yield FieldError(f"{where}.command", "must have at least the program to run")
    for index, argument in enumerate(_list(command)):
        if index == 0 and argument == "":
            yield FieldError(f"{where}.command[0]", "must name the program to run")
        yield from _no_nul(f"{where}.command[{index}]", argument)
    yield from _path(f"{where}.workdir", executor.get("workdir"), root_allowed=True)
    for stream in ("stdin", "stdout", "stderr"):
        yield from _path(f"{where}.{stream}", executor.get(stream))
    yield from _env(f"{where}.env", executor.get("env"))


def _env(where: str, env: Any) -> Iterator[FieldError]:
    if not isinstance(env, dict):
        return
    for key, value in env.items():
        field = below(where, key)
        if not key:
            yield FieldError(where, "must not have a variable without a name")
        elif "=" in key:
            yield FieldError(field, "must not have an = in its name")
        else:
            yield from _no_nul(field, key)
        yield from _no_nul(field, value)


def _tags(tags: Any) -> Iterator[FieldError]:
    """Names and tags are searched by databases, and not every one takes a NUL in text."""
    if isinstance(tags, dict):
        for key, value in tags.items():
            field = below("tags", key)
            yield from _no_nul(field, key)
            yield from _no_nul(field, value)


def _zone(field: str, zone: Any) -> Iterator[FieldError]:
    if isinstance(zone, str) and not LABEL.fullmatch(zone):
        yield FieldError(
            field,
            "must be the name of a zone: at most 63 letters, digits, '-', '_' and '.', with a "
            "letter or digit at both ends",
        )


def _no_nul(field: str, value: Any) -> Iterator[FieldError]:
    if isinstance(value, str) and "\0" in value:
        yield FieldError(field, "must not contain a NUL character")


def _path(field: str, path: Any, *, root_allowed: bool = False) -> Iterator[FieldError]:
    if isinstance(path, str) and (wrong := _wrong_with_path(path, root_allowed)):
        yield FieldError(field, wrong)


def _wrong_with_path(path: str, root_allowed: bool = False) -> str | None:
    if not path.startswith("/"):
        return "must be an absolute path: it has to begin with /"
    if "\0" in path:
        return "must not contain a NUL character"
    if ".." in path.split("/"):
        return "must not have .. as a component"
    if normalised(path) == "/" and not root_allowed:
        return "must not be / itself; one level below it is fine"
    return None


def _prefix(field: str, pattern: str, prefix: Any) -> Iterator[FieldError]:
    if prefix is None or prefix == "":
        yield FieldError(field, "is required where the path has wildcards")
    elif isinstance(prefix, str):
        literal, _ = _literal_beginning(pattern)
        if not literal.startswith(prefix):
            yield FieldError(field, "must be how the path begins, up to its first wildcard")


def _literal_beginning(pattern: str) -> tuple[str, bool]:
    """The pattern up to its first wildcard, without escapes, and whether there is one."""
    literal: list[str] = []
    characters = iter(pattern)
    for character in characters:
        if character in _WILDCARDS:
            return "".join(literal), True
        literal.append(next(characters, "\\") if character == "\\" else character)
    return "".join(literal), False


def _amount(field: str, amount: Any, most: int) -> Iterator[FieldError]:
    """Zero is no mistake: some clients send it where nothing is asked for."""
    if not isinstance(amount, int | float) or isinstance(amount, bool):
        return
    if amount < 0:
        yield FieldError(field, "must not be negative")
    elif amount > most:
        yield FieldError(field, f"must not be greater than {most}")


@dataclass(frozen=True, slots=True)
class _Placed:
    """An input with its place in the container."""

    where: str
    path: str
    is_file: bool

    @property
    def sort_key(self) -> str:
        """Sorts what is below a path directly after it (`/a`, `/a/b`, `/a-b`)."""
        return self.path.replace("/", "\0")


def _surely_file(item: JsonObject) -> bool:
    """Where `type` is absent, a URL may turn out to be a directory's."""
    return bool(item.get("content")) or item.get("type") == "FILE" or not item.get("url")


def _collisions(inputs: Iterable[_Placed]) -> Iterator[FieldError]:
    """Inputs at one path, and inputs below one that is a file."""
    before: _Placed | None = None
    file: _Placed | None = None
    for item in sorted(inputs, key=lambda item: item.sort_key):
        field = f"{item.where}.path"
        if before is not None and item.path == before.path:
            yield FieldError(field, f"is the path of {before.where} too")
        elif file is not None and item.path.startswith(file.path + "/"):
            yield FieldError(field, f"is below {file.where}, which is a file")
        else:
            before = item
            file = item if item.is_file else file


def _objects(document: JsonObject, name: str) -> Iterator[tuple[str, JsonObject]]:
    """The objects in the list under `name`, each with its path."""
    for index, item in enumerate(_list(document.get(name))):
        if isinstance(item, dict):
            yield f"{name}[{index}]", item


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
