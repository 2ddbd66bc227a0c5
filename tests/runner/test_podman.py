"""Podman's API, where a real Podman can't be brought to the moment in question."""

import socket
import threading
from pathlib import Path

import pytest

from raytes.errors import PodmanUnavailable
from raytes.runner.podman import Engine


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 5"])
def test_a_service_that_dies_while_it_is_attached_to_has_refused_nothing(
    tmp_path: Path, answer: bytes
) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.listen()

        def die() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        service = threading.Thread(target=die)
        service.start()
        with pytest.raises(PodmanUnavailable, match="went away while attaching"):
            Engine(tmp_path / "socket").attach("c")
        service.join()
