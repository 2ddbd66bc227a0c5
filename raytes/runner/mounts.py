"""Where the paths of a task lie on the node: a plan, made without touching anything.

What a task may write lies in directories of its scratch, which are bind-mounted writable into
each of its executors. What it may only read is bind-mounted from where it is.

- A volume, and the directory of a DIRECTORY output, is such a writable directory.
- So is the parent of a FILE output, because tools write a temporary file and rename it.
- A `file://` input is the original, read-only. Below a volume or a DIRECTORY output, which are
  one with what is in them, it is copied; below the parent of a FILE output it isn't.
- An input at the very path of an output is copied too, for the task to change.
- An original whose path is not UTF-8 is copied: Podman's API, which is JSON, can't name it.
- An input directory in which something else of the task lies is copied too: mounting
  into the original would change it.
- What an executor writes to stdout and stderr is kept on the node and needs no mount at all.
"""

import posixpath
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from raytes.errors import InvalidMounts
from raytes.models import TesFileType, TesTask
from raytes.runner.wildcards import fixed_directory, has_wildcards, literal
from raytes.unicode import is_unicode

# Filled by the kernel and the container runtime: what is mounted over them breaks programs.
_KERNEL: Final = ("/proc", "/sys", "/dev")


@dataclass(frozen=True, slots=True)
class Original:
    """A `file://` input as it lies on the node."""

    path: Path  # without links
    directory: bool
    exposed: bool = False  # below a local root declared `rw`: tasks may write there
    size: int = 0  # bytes of a file, when it was looked at


@dataclass(frozen=True, slots=True)
class Bind:
    """A bind mount."""

    source: Path
    destination: str
    writable: bool
    exposed: bool = False
    """Whether tasks may write to where the source lies, and put something else in its place."""


@dataclass(frozen=True, slots=True)
class MountPlan:
    """Where the paths of a task lie on the node."""

    binds: tuple[Bind, ...]
    """Of every executor, parents before children."""
    directories: tuple[Path, ...]
    """To be created before the first executor, for everybody to write in."""
    staged: Mapping[int, Path]
    """By index of the input: where its data must be brought, because it isn't there yet."""
    parents: Mapping[str, Path]
    """Mounted only because a FILE output is created there: may hide files of the image."""
    streams: Mapping[str, Path]
    """Container path → file, of each stdout or stderr that lies below no bind."""
    in_image: tuple[int, ...]
    """Indices of the outputs that are created among the image's own files, below no bind."""

    def located(self, path: str) -> Path | None:
        """Where a path would lie on the node if there were no links; None: below no bind."""
        for bind in reversed(self.binds):
            if is_below(path, bind.destination):
                return bind.source / path[len(bind.destination) :].lstrip("/")
        return self.streams.get(path)

    def bind_of(self, place: Path) -> Bind:
        """The mount of which a place of the plan on the node is a part.

        Raises:
            ValueError: it lies below none.
        """
        binds = (bind for bind in self.binds if place.is_relative_to(bind.source))
        return max(binds, key=lambda bind: len(bind.source.parts))

    def shown(self, place: Path) -> str:
        """The path at which containers see a place of the plan."""
        bind = self.bind_of(place)
        return posixpath.join(bind.destination, *place.relative_to(bind.source).parts)


def plan_mounts(
    task: TesTask,
    scratch: Path,
    originals: Mapping[int, Original],
    crowded: Collection[str] = (),
) -> MountPlan:
    """Plan the mounts of a task.

    Parameters:
        scratch: the task's own directory on the node.
        originals: its `file://` inputs by index.
        crowded: parents of outputs that no scratch directory can stand in for, because the image
            has too many files of its own there. `/` always is.

    Raises:
        InvalidMounts: two paths of the task can't both be mounted.
    """
    return _Planner(task, scratch, originals, crowded).plan()


def normal(path: str) -> str:
    """An absolute path without doubled or trailing slashes."""
    return posixpath.normpath("/" + path.lstrip("/"))


def is_below(path: str, directory: str) -> bool:
    """Whether a normal path is a directory or lies in it."""
    return directory == "/" or path == directory or path.startswith(directory + "/")


class _Planner:
    def __init__(
        self,
        task: TesTask,
        scratch: Path,
        originals: Mapping[int, Original],
        crowded: Collection[str],
    ) -> None:
        self._scratch = scratch
        self._outputs = task.outputs or []
        self._inputs = {i: normal(one.path) for i, one in enumerate(task.inputs or [])}
        self._originals = {i: originals[i] for i in originals}
        outputs = {
            normal(literal(one.path)) for one in self._outputs if not has_wildcards(one.path)
        }
        self._changed = {i for i, path in self._inputs.items() if path in outputs}
        self._drop_visible_inputs()
        self._streams = _stream_paths(task)
        self._volumes = {normal(volume) for volume in task.volumes or []}
        self._directories = {
            normal(literal(output.path))
            for output in self._outputs
            if output.type is TesFileType.DIRECTORY and not has_wildcards(output.path)
        }
        self._crowded = {"/", *crowded}
        # What is mounted writable, by how: fresh and owning its inputs, fresh, or the original.
        self._parents = self._output_parents()
        self._live = {
            self._inputs[i]: one.path
            for i, one in self._originals.items()
            if one.exposed and one.directory
        }
        self._owning = self._volumes | self._directories
        self._owning |= self._inputs_with_something_inside()
        everything = self._owning | self._parents | set(self._live)
        self._roots = {
            path: self._live.get(path) or scratch / "mounts" / str(number)
            for number, path in enumerate(_outermost(everything))
        }

    def plan(self) -> MountPlan:
        self._refuse_conflicts()
        binds = [
            Bind(source, path, writable=True, exposed=path in self._live)
            for path, source in self._roots.items()
        ]
        staged: dict[int, Path] = {}
        for i, path in self._inputs.items():
            if path in self._live:
                continue
            if place := self._place_in_root(i, path):
                staged[i] = place
                continue
            original = self._originals.get(i)
            changed = i in self._changed
            if original and not changed and is_unicode(str(original.path)):
                binds.append(Bind(original.path, path, writable=False, exposed=original.exposed))
            else:
                staged[i] = self._scratch / "inputs" / str(i)
                binds.append(Bind(staged[i], path, writable=changed))
        below_no_bind = [path for path in self._streams if not self._below_a_root(path)]
        return MountPlan(
            binds=tuple(sorted(binds, key=lambda bind: bind.destination.count("/"))),
            directories=tuple(self._fresh_directories()),
            staged=staged,
            parents={
                path: source
                for path, source in self._roots.items()
                if path in self._parents - self._owning and path not in self._live
            },
            streams={
                path: self._scratch / "streams" / str(number)
                for number, path in enumerate(below_no_bind)
            },
            in_image=tuple(self._outputs_in_image()),
        )

    def _drop_visible_inputs(self) -> None:
        """Forget inputs that another input directory shows already at the same place."""
        for i, one in list(self._originals.items()):
            if i in self._changed:
                continue
            for j, other in self._originals.items():
                inside = i != j and other.directory and is_below(self._inputs[i], self._inputs[j])
                below = self._inputs[i][len(self._inputs[j]) :].lstrip("/") if inside else ""
                if below and other.path / below == one.path:
                    del self._inputs[i], self._originals[i]
                    break

    def _output_parents(self) -> set[str]:
        """Parents of FILE outputs and the fixed directories of wildcards, if mountable."""
        parents = {
            normal(fixed_directory(output.path))
            for output in self._outputs
            if normal(literal(output.path)) not in self._directories
        }
        return parents - self._crowded

    def _inputs_with_something_inside(self) -> set[str]:
        others = self._volumes | self._directories | self._parents | set(self._streams)
        others |= set(self._inputs.values())
        return {
            path
            for path in self._inputs.values()
            if path not in self._live
            and (
                path in self._parents
                or any(other != path and is_below(other, path) for other in others)
            )
        }

    def _place_in_root(self, i: int, path: str) -> Path | None:
        """Where an input is copied in a writable directory; None: it is mounted for itself."""
        root = self._below_a_root(path)
        if root is None:
            return None
        owned = any(is_below(path, owner) for owner in self._owning)
        if i in self._originals and not owned and i not in self._changed:
            return None
        return self._host(path, root)

    def _fresh_directories(self) -> Iterable[Path]:
        wanted = self._volumes | self._directories | self._parents | self._roots.keys()
        # A user's own directory that is only an input keeps its mode.
        for path in sorted(wanted - self._live.keys()):
            root = self._below_a_root(path)
            if root is not None:
                yield self._host(path, root)

    def _outputs_in_image(self) -> Iterable[int]:
        for i, output in enumerate(self._outputs):
            path = normal(literal(output.path))
            if path in self._streams or self._below_a_root(path) or path in self._inputs.values():
                continue
            if normal(fixed_directory(output.path)) in self._crowded:
                yield i

    def _refuse_conflicts(self) -> None:
        mounted = {*self._inputs.values(), *self._roots}
        for path in mounted:
            if any(is_below(path, kernel) for kernel in _KERNEL):
                raise InvalidMounts(
                    f"{path} lies in a directory that belongs to the kernel; "
                    "choose another path for this input, output or volume"
                )
        for i, path in self._inputs.items():
            self._refuse_conflicts_of_input(i, path)

    def _refuse_conflicts_of_input(self, i: int, path: str) -> None:
        root = self._below_a_root(path)
        if path in self._streams and self._place_in_root(i, path) is None:
            raise InvalidMounts(
                f"{path} is an input and an executor's stdout or stderr: it would be overwritten; "
                "write to another path"
            )
        if root in self._live and path != root:
            raise InvalidMounts(
                f"the input {path} lies in {root}, an input directory that is mounted writable: "
                "it would be changed; use a path outside of it"
            )
        original = self._originals.get(i)
        if original and not original.directory and path in self._owning | self._parents:
            raise InvalidMounts(
                f"the input {path} is a file, but other paths of the task need a directory there"
            )

    def _below_a_root(self, path: str) -> str | None:
        return next((root for root in self._roots if is_below(path, root)), None)

    def _host(self, path: str, root: str) -> Path:
        return self._roots[root] / path[len(root) :].lstrip("/")


def _stream_paths(task: TesTask) -> list[str]:
    paths = (path for one in task.executors for path in (one.stdout, one.stderr) if path)
    return list(dict.fromkeys(normal(path) for path in paths))


def _outermost(paths: Iterable[str]) -> list[str]:
    outer: list[str] = []
    for path in sorted(paths, key=lambda path: (path.count("/"), path)):
        if not any(is_below(path, other) for other in outer):
            outer.append(path)
    return outer
