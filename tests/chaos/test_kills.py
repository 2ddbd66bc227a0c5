"""A random load under random kills: nothing lost, doubled, stuck, or left behind.

The seed is printed, and RAYTES_CHAOS_SEED repeats a run's load and order of kills (what they hit
is a matter of moments). RAYTES_CHAOS_ROUNDS and RAYTES_CHAOS_RATE (tasks a second) make it longer:

    RAYTES_CHAOS_ROUNDS=100 RAYTES_CHAOS_RATE=3 python -m pytest tests/chaos -m ""

RAYTES_CHAOS_DATABASE=postgresql keeps the tasks in a PostgreSQL, which is killed too.
"""

import os
import random
import secrets
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from raytes.models import TesTask
from raytes.surroundings import runtime_path
from tests.chaos import victims
from tests.chaos.load import Load, until_next_end
from tests.chaos.meanwhile import meanwhile
from tests.chaos.victims import Kill
from tests.images import Images
from tests.postgres import Server
from tests.service.ray_cluster import IMPATIENT, RayCluster
from tests.service.running import Service, processes
from tests.small_disk import mounted

NewService = Callable[..., Service]
Say = Callable[[str], None]

ENVIRONMENT = {"RAYTES_NETWORK": "none", "RAYTES_MAX_RETRIES": "100", "RAYTES_RETRY_DELAY": "0.1"}

_DISK = "100m"


@dataclass
class Places:
    """Where a service has what."""

    disk: Path  # a small one, for the state directory and the files that tasks share
    environment: dict[str, str]
    database: Server | None
    struck: set[str] = field(default_factory=set)  # the containers that are killed from outside

    def kills(self, service: Service) -> dict[str, Kill]:
        """What may die of a service there."""
        of_database = victims.of_database(self.database) if self.database else {}
        of_service = victims.of_service(service, self.struck)
        return of_service | victims.of_disk(self.disk, service) | of_database

    def assert_nothing_is_left(self) -> None:
        temporary = Path(self.environment["TMPDIR"]).iterdir()
        # Podman makes and removes an empty file now and then, and can be killed in between.
        left = [one for one in temporary if not (one.name.isdigit() and not one.stat().st_size)]
        assert left == []


@pytest.fixture
def places(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Places]:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    # What a command writes is not on the small disk: it would fail by its own fault.
    scratch = str(tmp_path / "scratch")
    environment = {**ENVIRONMENT, "TMPDIR": str(temporary), "RAYTES_SCRATCH_DIR": scratch}
    database: Server | None = None
    if os.environ.get("RAYTES_CHAOS_DATABASE") == "postgresql":
        database = request.getfixturevalue("postgres")
        environment["RAYTES_DATABASE"] = database.fresh()
    with mounted(tmp_path / "disk", _DISK):
        yield Places(tmp_path / "disk", environment, database)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    def say(line: str) -> None:
        with capsys.disabled():
            print(line)

    # In a process among several nobody would see it: there it is kept for the report of a failure.
    return print if "PYTEST_XDIST_WORKER" in os.environ else say


def run(service: Service, kills: Mapping[str, Kill], struck: set[str], say: Say) -> None:
    """Kill at random while a load is run; check what became of it, and print the figures."""
    seed = int(os.environ.get("RAYTES_CHAOS_SEED", secrets.randbelow(10**6)))
    rounds = int(os.environ.get("RAYTES_CHAOS_ROUNDS", len(kills)))
    rate = float(os.environ.get("RAYTES_CHAOS_RATE", "2"))
    say(f"\nRAYTES_CHAOS_SEED={seed}")
    chance = random.Random(seed)
    load = Load(service, random.Random(seed), struck)
    # All of them once, before any comes again.
    order = chance.sample(list(kills), len(kills))
    order += chance.choices(list(kills), k=max(0, rounds - len(order)))
    killed: list[tuple[str, float]] = []
    began = time.monotonic()
    beside = Beside({name: kills[name] for name in victims.SMALL}, random.Random(seed + 1))
    with (
        meanwhile(load.submit, lambda: 1 / rate),
        meanwhile(load.cancel_some, lambda: 0.2),
        meanwhile(beside.kill, beside.pause),
    ):
        for what in order[:rounds]:
            # Between any two statements: there is no event to wait for. Some come right upon
            # the one before, when what is killed is still being mended.
            time.sleep(max(0, chance.uniform(-1, 2)))
            say(f"{time.monotonic() - began:7.1f} s  {what}")
            if moment := kill(kills[what], chance):
                killed.append((what, moment))
    tasks = load.settle()
    seconds = time.monotonic() - began
    load.check(tasks)
    repaired = service.client.health()["repaired"]
    assert service.stop() == 0
    load.check_files()
    assert_nothing_is_left(service)

    tried_again = sum(len(task.logs or []) > 1 for task in tasks)
    say(f"{len(tasks)} tasks in {seconds:.0f} s, {tried_again} tried again: {ends(tasks)}")
    say(f"  killed while something else was: {dict(beside.killed)}")
    say(f"  what the store has repaired since it was started last: {repaired or 'nothing'}")
    for what in kills:
        waits = [until_next_end(moment, tasks) for name, moment in killed if name == what]
        known = [wait for wait in waits if wait is not None]
        words = f"  {what}: killed {len(waits)} times"
        if absent := order[:rounds].count(what) - len(waits):
            words += f", not there {absent} times"
        if known:
            words += f"; next end after {statistics.median(known):.1f} s, at most {max(known):.1f}"
        say(words)


@dataclass
class Beside:
    """Small things that die whatever else is dying, or being started again, at that moment."""

    kills: Mapping[str, Kill]
    chance: random.Random
    killed: Counter[str] = field(default_factory=Counter)

    def pause(self) -> float:
        return self.chance.uniform(2, 10)

    def kill(self) -> None:
        what = self.chance.choice(list(self.kills))
        self.killed[what] += self.kills[what](self.chance)


def kill(kill: Kill, chance: random.Random) -> float | None:
    """Kill something as soon as it is there; when, since the epoch, or None if it never was."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        moment = time.time()
        if kill(chance):
            return moment
        time.sleep(0.1)
    return None


def ends(tasks: list[TesTask]) -> str:
    counted = Counter(task.state.value for task in tasks if task.state)
    return ", ".join(f"{count} {state}" for state, count in counted.items())


def assert_nothing_is_left(service: Service) -> None:
    assert service.containers() == []
    scratch = service.scratch
    assert {path.suffix for path in scratch.rglob("*") if path.is_file()} <= {".lock"}
    assert [path for path in scratch.glob("*/*") if path.is_dir()] == []
    mounts = Path("/proc/self/mountinfo").read_text()
    assert not [place for place in (scratch, service.state_dir) if str(place) in mounts]
    assert processes(str(service.state_dir)) == []
    assert processes(str(runtime_path(service.state_dir))) == []


@pytest.mark.timeout(3600)
def test_whatever_is_killed_each_task_ends_once_and_nothing_is_left(
    new_service: NewService, places: Places, say: Say
) -> None:
    service = new_service(str(places.disk / "state"), **places.environment).start()
    run(service, places.kills(service), places.struck, say)
    places.assert_nothing_is_left()


@pytest.fixture
def cluster(podman_images: Images, places: Places) -> Iterator[RayCluster]:
    cluster = RayCluster(cpus=1, **IMPATIENT, TMPDIR=places.environment["TMPDIR"])
    yield cluster
    cluster.stop()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_whatever_is_killed_of_a_cluster_each_task_ends_once_and_nothing_is_left(
    cluster: RayCluster, podman_images: Images, places: Places, say: Say
) -> None:
    cluster.add_node(cpus=2)
    service = cluster.service(places.disk, podman_images.busybox, **places.environment).start()
    kills = places.kills(service) | victims.of_cluster(cluster, service, cpus=2)
    try:
        run(service, kills, places.struck, say)
        cluster.stop()
        places.assert_nothing_is_left()
    finally:
        service.stop()
