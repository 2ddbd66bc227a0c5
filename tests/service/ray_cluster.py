"""A Ray cluster of several nodes on this machine, each a raylet of its own."""

import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from raytes.surroundings import free_ports
from tests.service.running import Service

_RAY = Path(sys.executable).with_name("ray")

# A node that doesn't answer is given up within seconds, and not half a minute.
IMPATIENT = {
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "500",
    "RAY_health_check_failure_threshold": "4",
}


class RayNode:
    """One node: the `ray start` that holds it, and all that it started."""

    def __init__(
        self, options: list[str], environment: dict[str, str], within: Sequence[str] = ()
    ) -> None:
        self.process = subprocess.Popen(
            [*within, _RAY, "start", "--block", *options],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "Ray runtime started" in line:
                return
        raise AssertionError("`ray start` did not start a node")

    def id(self) -> str:
        """Ray's name for it, which its raylet is told when it is started."""
        for pid in self.family():
            line = Path(f"/proc/{pid}/cmdline").read_text()
            if found := re.search(r"--node_id=(\w+)", line):
                return found[1]
        raise AssertionError("the node has no raylet")

    def family(self) -> list[int]:
        """The node's processes, its workers with them, those of Podman not."""
        listed = subprocess.run(
            ["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True
        )
        parents = dict(map(int, line.split()) for line in listed.stdout.splitlines())
        found = {self.process.pid}
        while grown := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= grown
        return list(found)

    def signal(self, number: int) -> list[int]:
        """Send a signal to all of the node's processes, as if to the machine; which they are."""
        family = self.family()
        for pid in family:
            with suppress(ProcessLookupError):  # what ends by itself meanwhile
                os.kill(pid, number)
        return family

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(timeout=60)


class RayCluster:
    """A head node, and others that can be added and lost."""

    def __init__(self, cpus: int, host: str = "127.0.0.1", **environment: str) -> None:
        """`cpus` is what the head has; `environment` is for all of its nodes."""
        self._directory = Path("/tmp") / f"raytes-test-{secrets.token_hex(4)}"  # short: sockets
        self._host, self._head_cpus = host, cpus
        self.token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._environment = {**self.token, **environment}
        self.nodes: list[RayNode] = []
        self._start()

    def _start(self) -> None:
        [port] = free_ports(1)
        self.address = f"{self._host}:{port}"
        options = ["--head", "--port", str(port), "--node-ip-address", self._host]
        options += ["--include-dashboard", "false", "--temp-dir", str(self._directory)]
        options += ["--num-cpus", str(self._head_cpus)]
        self.nodes.append(RayNode(options, self._environment))

    def cut_power(self, service: Service) -> None:
        """Kill at once all nodes and all that runs of a service which has joined them, its
        containers included. Then a head node is started anew, and nothing else."""
        pids = [pid for pid, _ in service.processes()]
        # Stopped first, or one that still lives would tell how another was killed.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with suppress(ProcessLookupError):  # one is the parent of another
                    os.kill(pid, number)
        service.stop(signal.SIGKILL)
        while self.nodes:
            self.nodes.pop().stop()
        self._start()
        service.environment |= self.environment

    @property
    def environment(self) -> dict[str, str]:
        """What who joins it needs."""
        return {**self.token, "RAY_ADDRESS": self.address}

    def service(self, directory: Path, image: str, **environment: str) -> Service:
        """A service that joins it, with a local root that all nodes share (or all tasks that
        use its files would be placed on the node that serves), and `own` beside it, which is of
        the node that serves."""
        config, files, own = directory / "raytes.toml", directory / "files", directory / "own"
        for root in (files, own):
            root.mkdir()
        roots = f'[{{path = "{files}", shared = true}}, {{path = "{own}"}}]'
        config.write_text(f"local_root = {roots}\n")
        joining = {"RAYTES_CONFIG": str(config), "RAYTES_NETWORK": "none", **environment}
        service = Service(directory / "state", image, **self.environment, **joining)
        service.files, service.cluster = files, self.processes
        return service

    def processes(self) -> list[int]:
        """The processes that its nodes were started with."""
        return [node.process.pid for node in self.nodes]

    def add_node(
        self,
        cpus: int,
        labels: str = "",
        host: str = "",
        within: Sequence[str] = (),
        **environment: str,
    ) -> RayNode:
        """`within` is a command that runs the node's own on its host."""
        options = ["--address", self.address, "--num-cpus", str(cpus)]
        options += ["--labels", labels] if labels else []
        options += ["--node-ip-address", host] if host else []
        self.nodes.append(RayNode(options, {**self._environment, **environment}, within))
        return self.nodes[-1]

    def stop_others(self) -> None:
        """Stop all nodes but the head."""
        while len(self.nodes) > 1:
            self.nodes.pop().stop()

    def stop(self) -> None:
        self.stop_others()
        self.nodes[0].stop()
        subprocess.run(["rm", "-rf", self._directory], check=True)
