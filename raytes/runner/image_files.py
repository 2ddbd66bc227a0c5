"""The files of images that a task's own mounts would hide, or that its outputs lie among.

The parent of a FILE output is mounted from scratch. If the image has files there, they are copied
into it first, so that they stay visible. Where they are too many, and at `/`, nothing can be
mounted: such an output is created in the container's own file system, taken out of it
when its executor has ended, and put into the next one's.
"""

import enum
import errno
import posixpath
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from raytes.errors import InvalidMounts, OutputFailed, PodmanUnavailable
from raytes.models import TesOutput
from raytes.runner.inputs import make_where_missing
from raytes.runner.mounts import Bind, MountPlan, is_below, normal
from raytes.runner.podman import Engine, Image, NotFound
from raytes.runner.wildcards import fixed_directory, has_wildcards, literal, path_matches

_MAX_BYTES: Final = 64 * 2**20
_MAX_FILES: Final = 5_000
# What the kernel says where an image's file can't lie, whatever the node.
_NO_PLACE: Final = {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG}
_CLEANUP_TIMEOUT: Final = 30.0  # seconds
_CLEANUP_POLL: Final = 0.01  # seconds


class _Contents(enum.Enum):
    """What an image has in a directory."""

    NOTHING = enum.auto()
    SOME = enum.auto()
    TOO_MUCH = enum.auto()


class ImageFiles:
    """What images have in directories, looked up once per image and directory."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Contents] = {}

    def copy_up(
        self,
        engine: Engine,
        image: Image,
        parents: Mapping[str, Path],
        labels: Mapping[str, str],
    ) -> set[str]:
        """Copy what an image has in directories to where these will be mounted from.

        Returns the directories in which it has too much for that.

        Raises:
            PodmanUnavailable, ContainerRefused: the image can't be looked into.
            InvalidMounts: what it has leads, with what another image has, out of the directory.
        """
        known = {path: self._known.get((image.id, path), _Contents.SOME) for path in parents}
        wanted = sorted(path for path in known if known[path] is _Contents.SOME)
        if wanted:
            specification = {
                "image": image.id,
                "entrypoint": [],
                "command": ["-"],
                "labels": dict(labels),
                # What is in one is in the image too, and an archive of one has other names.
                "image_volume_mode": "ignore",
            }
            container, _ = engine.create(specification)
            try:
                for path in wanted:
                    known[path] = _extract(engine, container, path, parents[path])
                    self._known[image.id, path] = known[path]
            finally:
                engine.remove(container)
        return {path for path in known if known[path] is _Contents.TOO_MUCH}


def make_volumes(images: Iterable[Image], plan: MountPlan) -> None:
    """Make the directories of VOLUMEs below what is mounted, where there is nothing yet."""
    for path in sorted({path for image in images for path in image.volumes}):
        with suppress(InvalidMounts):  # an input, or a link of an image, is in its way
            make_where_missing(plan, path)


class InImageOutputs:
    """The outputs of a task that lie in its containers' own file systems."""

    def __init__(
        self, engine: Engine, outputs: Iterable[TesOutput], scratch: Path, images: Iterable[Image]
    ) -> None:
        self._engine = engine
        self._outputs = list(outputs)
        self._scratch = scratch
        self._kept: dict[str, Path] = {}
        self._directories = {
            path
            for image in images
            for path in image.volumes
            if any(_is_in(output, path) for output in self._outputs)
        }

    def volumes(self, image: Image) -> list[str]:
        """The VOLUMEs of an image but those with such an output, which are plain directories.

        Podman lists no changes in a volume, and its archive of one has other names.
        """
        return [path for path in image.volumes if path not in self._directories]

    @property
    def binds(self) -> list[Bind]:
        """Where what was taken out lies on the node, as if it were mounted."""
        return [Bind(source, path, writable=False) for path, source in self._kept.items()]

    def put(self, container: str) -> None:
        """Put what earlier executors made, and such VOLUMEs, into a container before its start.

        Raises:
            OutputFailed: it can't be done with what they made.
        """
        for path in sorted(self._directories - self._kept.keys()):
            if not self._has(container, path):
                directory = tarfile.TarInfo(path.lstrip("/"))
                directory.type, directory.mode = tarfile.DIRTYPE, 0o777
                with self._putting(container, path) as archive:
                    archive.addfile(directory)
        for path, source in self._kept.items():
            with self._putting(container, path) as archive:
                archive.add(source, arcname=path.lstrip("/"))

    @contextmanager
    def _putting(self, container: str, path: str) -> Iterator[tarfile.TarFile]:
        with _moving(path), tempfile.TemporaryFile(dir=self._scratch) as file:
            with tarfile.open(fileobj=file, mode="w") as archive:
                yield archive
            # Without what it is filled up with: Podman reads no further than the archive's end,
            # and fails when it is sent more by then.
            file.truncate(archive.offset)
            file.seek(0)
            self._engine.write_archive(container, "/", file)

    def _has(self, container: str, path: str) -> bool:
        try:
            with self._engine.read_archive(container, path):
                return True
        except NotFound:
            return False

    def take(self, container: str, *, is_cleaned_up: bool) -> None:
        """Take what is there of the outputs out of a container that has ended.

        `is_cleaned_up`: Podman cleans the container up by itself.

        Raises:
            OutputFailed: it can't be done with what is there.
        """
        if self._outputs and is_cleaned_up:
            self._await_cleanup(container)
        kept: dict[str, Path] = {}
        for path in self._paths(container):
            parent = self._scratch / "in-image"
            parent.mkdir(exist_ok=True)
            target = Path(tempfile.mkdtemp(dir=parent))
            with suppress(NotFound), _moving(path):
                with self._engine.read_archive(container, path) as archive:
                    archive.extractall(target, filter=_plain)  # noqa: S202
                kept[path] = target / posixpath.basename(path)
        self._kept = kept  # not what this executor has removed

    def _await_cleanup(self, container: str) -> None:
        # While conmon's exit command unmounts a container, an archive of it may come empty.
        deadline = time.monotonic() + _CLEANUP_TIMEOUT
        while self._engine.inspect(container).status != "exited":
            if time.monotonic() > deadline:
                raise PodmanUnavailable(
                    f"Podman has not cleaned up a container {_CLEANUP_TIMEOUT:.0f} seconds after "
                    "its end, so that its outputs can't be taken out"
                )
            time.sleep(_CLEANUP_POLL)

    def _paths(self, container: str) -> Iterable[str]:
        for output in self._outputs:
            if has_wildcards(output.path):
                for path in self._engine.changes(container):
                    if path_matches(path, output.path):
                        yield path
            else:
                yield normal(literal(output.path))


def _is_in(output: TesOutput, directory: str) -> bool:
    """Whether an output lies in a directory, or is it."""
    if has_wildcards(output.path):
        fixed = normal(fixed_directory(output.path))
        return is_below(fixed, directory) or path_matches(directory, output.path)
    return is_below(normal(literal(output.path)), directory)


@contextmanager
def _moving(path: str) -> Iterator[None]:
    """In this block, what is wrong with an output's own names is said to its task."""
    try:
        yield
    except (tarfile.FilterError, RecursionError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
            raise
        raise OutputFailed(
            f"the output {path} can't be taken out of its container: {error}; have the output "
            "created in a directory of its own"
        ) from error


def _extract(engine: Engine, container: str, path: str, target: Path) -> _Contents:
    """Copy a directory of a container."""
    found, size = 0, 0
    name = posixpath.basename(path)
    try:
        with engine.read_archive(container, path) as archive:
            for member in archive:
                below = posixpath.relpath(member.name.strip("/"), name)
                if below == ".":
                    continue
                found, size = found + 1, size + member.size
                if found > _MAX_FILES or size > _MAX_BYTES:
                    return _Contents.TOO_MUCH
                member.name = below
                if member.islnk():
                    member.linkname = posixpath.relpath(member.linkname.strip("/"), name)
                _drop_link(target, below)
                archive.extract(member, target, filter=_plain)
    except (tarfile.FilterError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_PLACE:
            raise
        raise InvalidMounts(
            f"what the images have in {path}, where an output is created, can't be put there: "
            f"{error}; have the output created in another directory"
        ) from error
    except NotFound:
        return _Contents.NOTHING
    return _Contents.SOME if found else _Contents.NOTHING


def _drop_link(target: Path, below: str) -> None:
    """Remove a link that another image has at a place: `tar_filter` would follow it."""
    place = target / below
    if place.is_symlink() and place.parent.resolve().is_relative_to(target.resolve()):
        place.unlink()


def _plain(member: tarfile.TarInfo, target: str) -> tarfile.TarInfo | None:
    """What may be extracted: no devices, nothing outside of the target; modes as they are."""
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        return None
    safe = tarfile.tar_filter(member, target)
    if member.islnk():  # of which `tar_filter` doesn't look at the other name
        tarfile.tar_filter(member.replace(name=member.linkname, deep=False), target)
    return safe.replace(mode=member.mode & 0o777, deep=False)
