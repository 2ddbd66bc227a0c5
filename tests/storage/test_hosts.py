"""Which hosts http(s) URLs may lead to."""

import pytest

from raytes.storage.hosts import refusal_of_address, refusal_of_host


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "224.0.0.1",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
def test_addresses_of_the_node_and_its_cloud_are_refused(address: str) -> None:
    assert refusal_of_address(address)


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "192.168.1.1", "93.184.216.34", "2606:2800:220:1::1", "fd12::1"]
)
def test_other_addresses_may_be_connected_to(address: str) -> None:
    assert refusal_of_address(address) is None


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "１２７.0.0.1",  # noqa: RUF001
        "127。0。0。1",
        "ｌｏｃａｌｈｏｓｔ",  # noqa: RUF001
        "metadata.google.internal",
        "::1",
        "169.254.169.254",
    ],
)
def test_a_refused_address_is_known_in_every_spelling(host: str) -> None:
    assert refusal_of_host(host, (), ())


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("data.example.org", True),
        ("DATA.example.org", True),
        ("secret.example.org", False),
        ("example.org", False),
        ("example.com", False),
    ],
)
def test_hosts_are_allowed_and_denied_by_patterns(host: str, allowed: bool) -> None:
    refusal = refusal_of_host(host, ["*.example.org"], ["secret.*"])
    assert (refusal is None) is allowed


def test_without_patterns_every_named_host_is_allowed() -> None:
    assert refusal_of_host("example.org", (), ()) is None


@pytest.mark.parametrize("host", ["ｅｖｉｌ.example", "EVIL.example.", "evil。example"])  # noqa: RUF001
def test_a_denied_host_is_known_in_every_spelling(host: str) -> None:
    assert refusal_of_host(host, (), ["evil.example"])
    assert refusal_of_host(host, ["*.lab.example"], ())
