"""A node for the runner's tests: a real Podman service of its own, scratch and a local root."""

import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from raytes import ids
from raytes.attempt import Assignment, Receipt, Update
from raytes.config import Settings
from raytes.models import TesExecutorLog, TesState, TesTask, TesTaskLog
from raytes.runner.control import Control
from raytes.runner.image_files import ImageFiles
from raytes.runner.service import PodmanService
from raytes.runner.task import Authorize, Node, run_attempt
from raytes.storage import Storage
from tests.images import Images
from tests.runner.registry import Registry


@dataclass
class Attempt:
    """An attempt, and what was said of it."""

    last: Update
    updates: list[Update] = field(default_factory=list)

    @property
    def state(self) -> TesState:
        assert self.last.state is not None
        return self.last.state

    @property
    def log(self) -> TesTaskLog:
        assert self.last.log is not None
        return self.last.log

    @property
    def executors(self) -> list[TesExecutorLog]:
        return self.log.logs

    @property
    def exit_codes(self) -> list[int]:
        return [one.exit_code for one in self.executors]

    @property
    def failure_reason(self) -> str | None:
        return (self.log.metadata or {}).get("failure_reason")

    @property
    def system_logs(self) -> str:
        return "\n".join(line for one in self.updates for line in one.system_logs)

    def stdout(self, index: int = 0) -> str:
        return self._tail("stdout", index)

    def stderr(self, index: int = 0) -> str:
        return self._tail("stderr", index)

    def _tail(self, stream: str, index: int) -> str:
        tails = [one.tails[index] for one in self.updates if index in one.tails]
        text: str = getattr(tails[-1], stream)
        return text


@dataclass
class Bench:
    """Runs task documents on a node."""

    node: Node
    files: Path  # the local root
    images: Images

    def run(
        self,
        task: dict[str, Any],
        *,
        control: Control | None = None,
        said: Callable[[Update], None] = lambda update: None,
        authorize: Authorize = lambda task_id, attempt, receipts: True,
        task_id: str | None = None,
        attempt: int = 1,
        receipts: Sequence[Receipt] = (),
        **settings: Any,
    ) -> Attempt:
        node = self._with(settings)
        updates: list[Update] = []

        def send(update: Update, answer: Callable[[bool], None]) -> None:
            updates.append(update)
            said(update)
            answer(True)

        last = run_attempt(
            Assignment(
                task_id or ids.mint(),
                attempt,
                TesTask.model_validate(task),
                receipts=tuple(receipts),
            ),
            node,
            send,
            authorize,
            control or Control(),
        )
        return Attempt(last, [*updates, last])

    def sh(self, script: str, **task: Any) -> Attempt:
        """Run a task of one executor, a shell script in busybox."""
        return self.run({"executors": [self.executor(script)], **task})

    def executor(self, script: str, **fields: Any) -> dict[str, Any]:
        return {"image": self.images.busybox, "command": ["sh", "-c", script], **fields}

    def needs(self, *controllers: str) -> None:
        """Skip the test where the node can't enforce a limit."""
        missing = set(controllers) - self.node.podman.enforcement().controllers
        if missing:
            pytest.skip(f"this node can't limit {', '.join(sorted(missing))}")

    def containers(self) -> list[dict[str, Any]]:
        return self.node.podman.engine().containers([f"raytes.instance={self.node.instance}"])

    def scratch(self) -> list[str]:
        directory = self.node.settings.scratch / self.node.instance
        return sorted(one.name for one in directory.iterdir() if one.suffix != ".lock")

    def _with(self, settings: dict[str, Any]) -> Node:
        if not settings:
            return self.node
        changed = self.node.settings.model_copy(update=settings)
        return replace(self.node, settings=changed, storage=Storage(changed))


@dataclass
class Registries:
    """Registries that the node's Podman trusts, one open and one that asks who it is."""

    open: Registry
    private: Registry
    auth_file: Path


@pytest.fixture(scope="session")
def registries(
    tmp_path_factory: pytest.TempPathFactory, podman_images: Images
) -> Iterator[Registries]:
    directory = tmp_path_factory.mktemp("registries")
    found = Registries(
        Registry(directory / "open"),
        Registry(directory / "private", user="somebody:secret"),
        directory / "config.json",
    )
    both = (found.open, found.private)
    trust = "".join(f'[[registry]]\nlocation = "{one.address}"\ninsecure = true\n' for one in both)
    (directory / "registries.conf").write_text(trust)
    found.auth_file.write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        # Before the node's Podman service starts: it reads them from its environment.
        patch.setenv("CONTAINERS_REGISTRIES_CONF", str(directory / "registries.conf"))
        patch.setenv("DOCKER_CONFIG", str(directory))
        yield found
    for one in both:
        one.close()


@pytest.fixture(scope="session")
def node(
    tmp_path_factory: pytest.TempPathFactory, podman_images: Images, registries: Registries
) -> Iterator[Node]:
    state = tmp_path_factory.mktemp("node")
    settings = Settings(state_dir=state, network="none", default_ram_gb=0.25)
    settings.local_root[0].path.mkdir()
    instance = uuid.uuid4().hex
    podman = PodmanService(settings, instance)
    yield Node("test-node", settings, instance, podman, Storage(settings), ImageFiles())
    podman.release()


@pytest.fixture
def bench(node: Node, podman_images: Images, request: pytest.FixtureRequest) -> Iterator[Bench]:
    files = node.settings.local_root[0].path / request.node.name[:80].replace("/", "_")
    files.mkdir()
    bench = Bench(node, files, podman_images)
    mounts = _mounts(node)
    yield bench
    assert bench.containers() == []
    assert bench.scratch() == []
    assert _mounts(node) == mounts


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


def _mounts(node: Node) -> list[str]:
    found = subprocess.run(
        ["findmnt", "-rno", "TARGET"], check=True, text=True, capture_output=True
    )
    return [line for line in found.stdout.splitlines() if str(node.settings.state_dir) in line]
