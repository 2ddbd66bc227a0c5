"""What a container can't reach."""

import os
from pathlib import Path

import pytest

from tests.runner.conftest import Bench

# CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW,
# SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP: what Podman and Docker give at most by default.
_DEFAULT_CAPABILITIES = 0xA80425FB
_IPV6 = Path("/proc/net/if_inet6")
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")


@pytest.mark.parametrize("set_of", ["CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"])
def test_a_container_has_podman_s_default_capabilities_or_fewer(bench: Bench, set_of: str) -> None:
    found = bench.sh(f"grep {set_of}: /proc/self/status | cut -f 2").stdout()
    assert int(found, 16) & ~_DEFAULT_CAPABILITIES == 0


def test_a_container_shares_no_namespace_with_the_node(bench: Bench) -> None:
    listed = " ".join(f"/proc/self/ns/{name}" for name in _NAMESPACES)
    seen = bench.sh(f"for one in {listed}; do readlink $one; done").stdout().splitlines()
    assert len(seen) >= len(_NAMESPACES) - 1  # kernels before 4.6 have no cgroup namespace
    ours = {os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES}
    # With cgroup v1 Podman leaves a container the node's cgroup namespace.
    assert {one for one in ours & set(seen) if not one.startswith("cgroup:")} == set()


needs_a_network = pytest.mark.skipif(
    os.geteuid() != 0 and not os.access("/dev/net/tun", os.R_OK | os.W_OK),
    reason="rootless containers have no network without /dev/net/tun",
)


@needs_a_network
@pytest.mark.parametrize(
    ("addresses", "other"),
    [
        (
            "169.254.169.254 169.254.170.2 168.63.129.16 100.100.100.200 192.0.0.192",
            "127.0.0.1",
        ),
        pytest.param(
            "[fd00:ec2::254] [fd00:ec2::23] [fd20:ce::254]",
            "[::1]",
            marks=pytest.mark.skipif(
                not _IPV6.exists() or not _IPV6.read_text(), reason="this node has no IPv6"
            ),
        ),
    ],
    ids=["IPv4", "IPv6"],
)
def test_a_cloud_s_metadata_service_is_refused_and_other_addresses_are_not(
    bench: Bench, addresses: str, other: str
) -> None:
    script = f"for one in {addresses} {other}; do wget -O - http://$one; done"
    attempt = bench.run({"executors": [bench.executor(script)]}, network="default")
    refusals = [line for line in attempt.stderr().splitlines() if "can't connect" in line]
    assert [line.rsplit(": ")[-1] for line in refusals] == [
        *["Permission denied" for _ in addresses.split()],
        "Connection refused",
    ]
    assert "metadata" not in attempt.system_logs


@needs_a_network
def test_a_container_can_not_let_itself_reach_it_again(bench: Bench) -> None:
    attempt = bench.run({"executors": [bench.executor("ip rule del prio 0")]}, network="default")
    assert "not permitted" in attempt.stderr()


@pytest.mark.parametrize("network", ["host", pytest.param("bridge", marks=needs_a_network)])
def test_the_network_is_the_node_s_or_one_of_its_own_as_the_setting_says(
    bench: Bench, network: str
) -> None:
    script = "readlink /proc/self/ns/net; ip route"
    attempt = bench.run({"executors": [bench.executor(script)]}, network=network)
    namespace, *routes = attempt.stdout().splitlines()
    assert (namespace == os.readlink("/proc/self/ns/net")) is (network == "host")
    assert network == "host" or any(route.startswith("default via") for route in routes)


def test_a_task_may_ask_for_no_network(bench: Bench) -> None:
    task = {
        "executors": [bench.executor("ls /sys/class/net")],
        "resources": {"backend_parameters": {"network": "none"}},
    }
    assert bench.run(task, network="bridge").stdout() == "lo\n"
