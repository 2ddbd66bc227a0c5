"""Joining a cluster that isn't there."""

import socket

import pytest

from raytes.cluster import ClusterUnreachable, joined_ray
from raytes.config import Settings


def test_a_cluster_that_does_not_answer_is_told_of_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody_listens.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ClusterUnreachable, match=rf"{address} .*RAY_ADDRESS"):  # noqa: SIM117
            with joined_ray(Settings()):
                pytest.fail("there is none")
