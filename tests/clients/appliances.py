"""Images that engines run their own program in, built without a registry.

Snakemake and Toil run themselves inside of their tasks. Their images are the distribution's Python
and the very packages of the client's environment.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

from tests.clients.environments import CannotInstall, Environment

_BUILD_IMAGE = Path(__file__).parents[2] / "scripts" / "build-image"
_PACKAGES = ("python3", "python-is-python3", "ca-certificates")

# pip finds what an engine wants to install on the way in the image: what that depends on is there.
_CONTAINERFILE = """
FROM {base}
COPY {packages} /opt/client/packages
COPY appliance/bin /opt/client/bin
COPY appliance/wheels /opt/client/wheels
ENV PATH=/opt/client/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENV PYTHONPATH=/opt/client/packages PYTHONDONTWRITEBYTECODE=1
ENV PIP_NO_INDEX=1 PIP_NO_DEPS=1 PIP_FIND_LINKS=/opt/client/wheels
"""


def appliance(environment: Environment, *wheels: str, tag: str = "") -> str:
    """The image with the client of `environment`, built if it isn't there.

    `wheels` are requirements that pip must be able to install inside of it. `tag` becomes part
    of the name.

    Raises:
        CannotInstall: the distribution's Python isn't the one that the environment is for.
    """
    requirements = (environment.directory / "requirements.txt").read_text()
    content = "\n".join([_CONTAINERFILE, requirements, *wheels])
    version = "-".join(filter(None, [tag, hashlib.sha256(content.encode()).hexdigest()[:12]]))
    image = f"localhost/raytes-test-{environment.directory.name}:{version}"
    if not _exists(image):
        directory = environment.directory / "appliance"
        _copy_programs(environment, directory / "bin")
        _download(environment, directory / "wheels", wheels)
        packages = environment.site_packages.relative_to(environment.directory)
        containerfile = _CONTAINERFILE.format(base=_python(), packages=packages)
        _build(image, containerfile, environment.directory)
    return image


def _python() -> str:
    """The image with the distribution's Python, built if it isn't there."""
    content = " ".join(_PACKAGES) + _BUILD_IMAGE.read_text()
    image = f"localhost/raytes-test-python:{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    if not _exists(image):
        subprocess.run([_BUILD_IMAGE, image, *_PACKAGES], check=True)
    wanted = f"python3.{sys.version_info.minor}"
    run = ["podman", "run", "--rm", "--network=none", image, wanted, "--version"]
    if subprocess.run(run, capture_output=True).returncode:
        raise CannotInstall(f"the tests run on {wanted}, and the distribution's is another")
    return image


def _exists(image: str) -> bool:
    return subprocess.run(["podman", "image", "exists", image]).returncode == 0


def _copy_programs(environment: Environment, target: Path) -> None:
    """The environment's programs, for the Python of the image."""
    target.mkdir(parents=True, exist_ok=True)
    programs = (path for path in (environment.directory / "bin").iterdir() if path.is_file())
    for program in programs:
        first, _, rest = program.read_bytes().partition(b"\n")
        if first.startswith(b"#!") and b"python" in first:
            (target / program.name).write_bytes(b"#!/usr/bin/python3\n" + rest)
            (target / program.name).chmod(0o755)


def _download(environment: Environment, target: Path, wheels: tuple[str, ...]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        command = [environment.program("pip"), "download", "--quiet", "--no-deps", "--dest"]
        subprocess.run([*command, target, wheel], check=True)


def _build(image: str, containerfile: str, context: Path) -> None:
    command = ["podman", "build", "--quiet", "--pull=never", "--tag", image, "--file", "-"]
    subprocess.run(
        [*command, context], input=containerfile, text=True, check=True, stdout=subprocess.PIPE
    )
