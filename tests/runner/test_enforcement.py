from typing import Any

import pytest

from raytes.runner import metadata_service
from raytes.runner.enforcement import enforcement_of


@pytest.fixture(autouse=True)
def _complete_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_service, "can_be_kept_away", lambda: True)


def info(
    version: str, rootless: bool, *controllers: str, driver: str = "overlay"
) -> dict[str, Any]:
    return {
        "host": {
            "cgroupVersion": version,
            "cgroupControllers": list(controllers) or None,
            "security": {"rootless": rootless},
        },
        "store": {"graphDriverName": driver},
    }


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_root_can_limit_all(version: str) -> None:
    found = enforcement_of(info(version, False, "cpu", "io", "memory", "pids"))
    assert found.controllers == {"cpu", "memory", "pids"}
    assert found.shortcomings == ()


def test_rootless_with_cgroup_v1_nothing_is_limited_and_that_is_said() -> None:
    found = enforcement_of(info("v1", True, "cpu", "memory", "pids"))
    assert found.controllers == set()
    [sentence] = found.shortcomings
    assert "memory, CPUs, processes" in sentence
    assert "cgroup v2" in sentence


def test_rootless_with_cgroup_v2_what_is_not_delegated_is_named() -> None:
    found = enforcement_of(info("v2", True, "memory", "pids"))
    assert found.controllers == {"memory", "pids"}
    [sentence] = found.shortcomings
    assert "use of CPUs:" in sentence
    assert "Delegate" in sentence


def test_a_storage_driver_that_does_not_tell_what_containers_write_is_named() -> None:
    [sentence] = enforcement_of(
        info("v2", False, "cpu", "memory", "pids", driver="vfs")
    ).shortcomings
    assert "disk_gb" in sentence


def test_a_node_that_can_not_keep_the_metadata_service_away_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metadata_service, "can_be_kept_away", lambda: False)
    [sentence] = enforcement_of(info("v2", False, "cpu", "memory", "pids")).shortcomings
    assert "iproute2" in sentence
