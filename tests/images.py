"""The images that the tests run, built from the machine's own busybox: no registry is needed."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

_CONTAINERS_CONF = Path(__file__).with_name("containers.conf")

_BUSYBOX = """
FROM scratch
COPY root /
ENV PATH=/bin
"""
# No shell: the two programs are all there is.
_BARE = """
FROM scratch
COPY root/bin/busybox /cat
COPY root/bin/busybox /echo
"""
_FUSSY = """
FROM localhost/raytes-test-busybox
USER 1000
WORKDIR /srv
ENV COLOUR=green SHAPE=round
ENTRYPOINT ["/bin/false"]
"""


@dataclass(frozen=True)
class Images:
    """Names of images."""

    busybox: str = "localhost/raytes-test-busybox"
    bare: str = "localhost/raytes-test-bare"
    """Without a shell: `/cat` and `/echo`, nothing else."""
    fussy: str = "localhost/raytes-test-fussy"
    """With an ENTRYPOINT that fails, a USER (1000), a WORKDIR (/srv) and an ENV (COLOUR, SHAPE)."""


def build() -> Images:
    """Build the images; quick where they are already."""
    images = Images()
    with tempfile.TemporaryDirectory() as directory:
        _root(Path(directory) / "root")
        for name, containerfile in (
            (images.busybox, _BUSYBOX),
            (images.bare, _BARE),
            (images.fussy, _FUSSY),
        ):
            command = ["podman", "build", "--quiet", "--pull=never", "--tag", name]
            subprocess.run(
                [*command, "--file", "-", directory],
                input=containerfile,
                text=True,
                check=True,
                capture_output=True,
            )
    return images


def adapt_podman(images: Images) -> None:
    """Have Podman work on this machine: its defaults where they do, else `containers.conf`."""
    trial = ["podman", "run", "--rm", "--network=none", "--memory=64m", images.busybox, "true"]
    if subprocess.run(trial, capture_output=True).returncode == 0:
        return
    os.environ["CONTAINERS_CONF"] = str(_CONTAINERS_CONF)
    subprocess.run(trial, check=True)


def _root(root: Path) -> None:
    """The files of the busybox image."""
    binaries = root / "bin"
    binaries.mkdir(parents=True)
    busybox = shutil.which("busybox")
    if busybox is None:
        raise RuntimeError("the tests need busybox: apt-get install busybox-static")
    shutil.copy(busybox, binaries / "busybox")
    applets = subprocess.run([busybox, "--list"], check=True, text=True, stdout=subprocess.PIPE)
    for applet in set(applets.stdout.split()) - {"busybox"}:
        (binaries / applet).symlink_to("busybox")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
    (root / "etc/own.conf").write_text("the image's own\n")
    shared = root / "usr/local/share/x"
    shared.mkdir(parents=True)
    (shared / "keep").write_text("keep\n")
    # Times are part of the layer: with these, a second build finds it in Podman's cache.
    for path in (root, *root.rglob("*")):
        os.utime(path, (0, 0), follow_symlinks=False)
