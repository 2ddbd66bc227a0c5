"""Which hosts http(s), ftp and drs URLs may lead to.

On a node's loopback address listen services that trust whoever reaches them, Ray's
dashboard among them; on link-local and some other addresses clouds hand out credentials.
A task's URL must not make raytes talk to them, in whatever spelling and by whatever name.
"""

import socket
from collections.abc import Iterable
from fnmatch import fnmatchcase
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

METADATA_ADDRESSES = frozenset(
    ip_address(address)
    for address in (
        "169.254.169.254",  # most clouds
        "169.254.170.2",  # AWS: tasks of ECS
        "169.254.170.23",  # AWS: pods of EKS
        "168.63.129.16",  # Azure
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",  # AWS: pods of EKS
        "fd20:ce::254",  # Google
    )
)
"""Where clouds hand out the credentials of their machines."""

_NAMES = frozenset({"localhost", "metadata.google.internal"})
_THIS_NETWORK = IPv4Network("0.0.0.0/8")
_EMBEDDING: tuple[IPv6Network, ...] = tuple(
    network
    for text in ("::/96", "64:ff9b::/96")  # IPv4-compatible; NAT64
    if isinstance(network := ip_network(text), IPv6Network)
)


def refusal_of_host(host: str, allow: Iterable[str], deny: Iterable[str]) -> str | None:
    """Why a URL may not name `host`, as far as its name tells; None: it may."""
    host = host.lower().rstrip(".")
    names = {host, _as_resolved(host)}
    allow = tuple(allow)
    if any(_matches(name, deny) or (allow and not _matches(name, allow)) for name in names):
        return f"the host {host} is not allowed here (the settings `allow_hosts`, `deny_hosts`)"
    for name in names:
        if name in _NAMES or name.endswith(".localhost"):
            return _reserved(host)
        address = _literal(name)
        if address is not None and (refusal := refusal_of_address(address)):
            return refusal
    return None


def refusal_of_address(address: str) -> str | None:
    """Why no connection may be made to an IP address; None: it may."""
    ip = _innermost(ip_address(address))
    if (
        ip.is_loopback
        or ip.is_link_local
        or ip.is_unspecified
        or ip.is_multicast
        or ip in METADATA_ADDRESSES
        or (isinstance(ip, IPv4Address) and ip in _THIS_NETWORK)
    ):
        return _reserved(address)
    return None


def _reserved(host: str) -> str:
    return (
        f"{host} is an address of the node itself or of its cloud; a section "
        '[storage."http://host:port"] in the settings allows it'
    )


def _matches(host: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(host, pattern.lower()) for pattern in patterns)


def _literal(host: str) -> str | None:
    """The address that `host` spells, also as 127.1, 2130706433 or 0x7f000001."""
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeEncodeError):
        return None


def _as_resolved(host: str) -> str:
    """`host` as it is looked up: full-width letters and the like are mapped to plain ones."""
    try:
        return host.encode("idna").decode().rstrip(".")
    except UnicodeError:
        return host


def _innermost(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address inside of an IPv6 address that only wraps one."""
    if isinstance(ip, IPv4Address):
        return ip
    if any(ip in network for network in _EMBEDDING) and not (ip.is_loopback or ip.is_unspecified):
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip
