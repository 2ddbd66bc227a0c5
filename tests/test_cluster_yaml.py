import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return config


def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


def test_every_node_says_its_zone_and_its_market(cluster: dict[str, Any]) -> None:
    zone = cluster["provider"]["availability_zone"]

    for node in cluster["available_node_types"].values():
        assert node["labels"]["ray.io/availability-zone"] == zone
        assert node["labels"]["ray.io/market-type"] in ("on-demand", "spot")


def test_only_nodes_on_the_spot_market_are_labelled_so(cluster: dict[str, Any]) -> None:
    for node in cluster["available_node_types"].values():
        market = node["node_config"].get("InstanceMarketOptions", {}).get("MarketType")
        assert node["labels"]["ray.io/market-type"] == (market or "on-demand")


def test_every_node_that_runs_tasks_declares_its_disk(cluster: dict[str, Any]) -> None:
    for node in cluster["available_node_types"].values():
        volume = node["node_config"]["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"]
        runs_tasks = node["resources"].get("CPU") != 0
        assert ("disk_gb" in node["resources"]) == runs_tasks
        # EBS counts in GiB. What is left is for the system and for images.
        assert node["resources"].get("disk_gb", 0) * 10**9 < volume * 2**30


@pytest.mark.parametrize("start", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_ray_is_started_in_the_environment_that_asks_for_the_token(
    cluster: dict[str, Any], start: str
) -> None:
    for command in cluster[start]:
        if "ray start" in command or "ray stop" in command:
            assert command.startswith(". ~/.raytes/environment; ")


def test_the_token_and_all_that_the_commands_run_reach_every_node(cluster: dict[str, Any]) -> None:
    mounts = cluster["file_mounts"]
    assert "~/.raytes/ray-token" in mounts

    commands = cluster["setup_commands"] + cluster["head_start_ray_commands"]
    scripts = [command for command in commands if command.startswith("~/raytes/")]
    assert scripts
    for script in scripts:
        local = ROOT / script.removeprefix("~/raytes/")
        assert os.access(local, os.X_OK)
    sources = [source for source in mounts.values() if not source.startswith("~")]
    assert all((ROOT / source).exists() for source in sources)
