"""The backend parameters of a task, and what holds for it: what it asks for and the settings.

TES 1.1, `tesResources.backend_parameters`: strings to strings, keys in any case. The api
checks and keeps them under their keys here, in lower case.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from raytes.config import GB, Settings
from raytes.models import TesResources

_MAX_RETRIES: Final = 100
_MAX_GPUS: Final = 1024
# Bytes. With less a container may be killed while the runtime still prepares it.
_LEAST_MEMORY: Final = 12 * 2**20
LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
"""What Ray takes for the value of a label: a zone, a type of accelerator."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What holds for one task."""

    cpus: int
    memory: int  # bytes
    disk: int  # bytes; 0: as much as there is
    entrypoint: Literal["none", "image"]
    max_runtime: float | None  # seconds; None: as long as it takes
    network: Literal["default", "none", "host", "bridge"]
    gpu_count: int
    gpu_type: str  # as in Ray's label `ray.io/accelerator-type`; empty: any
    missing_outputs: Literal["error", "warn"]
    max_retries: int


def choices_of(resources: TesResources | None, settings: Settings) -> Choices:
    """What a task asks for, and the settings where it says nothing; an amount of 0 says nothing.

    `max_runtime` is the exception: the setting is a bound, and a task can only ask for less.
    """
    resources = resources or TesResources()
    asked = resources.backend_parameters or {}
    gpu_type = asked.get("gpu_type", "")
    bounds = [settings.max_runtime or math.inf, float(asked.get("max_runtime", math.inf))]
    return Choices(
        cpus=resources.cpu_cores or settings.default_cpu_cores,
        memory=_bytes(resources.ram_gb or settings.default_ram_gb, at_least=_LEAST_MEMORY),
        disk=_bytes(resources.disk_gb or settings.default_disk_gb, at_least=1),
        entrypoint="image" if asked.get("entrypoint", settings.entrypoint) == "image" else "none",
        max_runtime=None if min(bounds) == math.inf else min(bounds),
        network="none" if "network" in asked else settings.network,
        gpu_count=int(asked.get("gpu_count", 1 if gpu_type else 0)),
        gpu_type=gpu_type,
        missing_outputs=(
            "warn" if asked.get("missing_outputs", settings.missing_outputs) == "warn" else "error"
        ),
        max_retries=int(asked.get("max_retries", settings.max_retries)),
    )


def _bytes(gigabytes: float, at_least: int) -> int:
    """0 only where nothing is asked for: to Podman and to Ray it is no limit at all."""
    return max(at_least, round(gigabytes * GB)) if gigabytes else 0


def _one_of(*values: str) -> Callable[[str], str | None]:
    def check(value: str) -> str | None:
        return None if value in values else f"must be {' or '.join(values)}"

    return check


def _whole_number(at_most: int) -> Callable[[str], str | None]:
    def check(value: str) -> str | None:
        if re.fullmatch(r"[0-9]{1,9}", value) and int(value) <= at_most:
            return None
        return f"must be a whole number from 0 to {at_most}"

    return check


def _seconds(value: str) -> str | None:
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value) and float(value) > 0:
        return None
    return "must be a number of seconds greater than 0"


def _label(value: str) -> str | None:
    if LABEL.fullmatch(value):
        return None
    return "must be the name of an accelerator as Ray has it, like A100 or L4"


BACKEND_PARAMETERS: Mapping[str, Callable[[str], str | None]] = {
    "entrypoint": _one_of("image", "none"),
    "gpu_count": _whole_number(_MAX_GPUS),
    "gpu_type": _label,
    "max_retries": _whole_number(_MAX_RETRIES),
    "max_runtime": _seconds,
    "missing_outputs": _one_of("error", "warn"),
    "network": _one_of("none"),
}
"""The parameters that tasks may use: their canonical keys, each with a check that says what is
wrong with a value, or None."""
