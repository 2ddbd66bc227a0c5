"""The images that the tests run, built from the machine's own busybox: no registry is needed."""

import hashlib
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
FROM {busybox}
USER 1000
WORKDIR /srv
ENV COLOUR=green SHAPE=round
ENTRYPOINT ["/bin/false"]
VOLUME /made/by/nobody
"""


# What is built, as a tag: it is built once, and again when this file has changed.
_VERSION = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]


@dataclass(frozen=True)
class Images:
    """Names of images."""

    busybox: str = f"localhost/raytes-test-busybox:{_VERSION}"
    bare: str = f"localhost/raytes-test-bare:{_VERSION}"
    """Without a shell: `/cat` and `/echo`, nothing else."""
    fussy: str = f"localhost/raytes-test-fussy:{_VERSION}"
    """With an ENTRYPOINT that fails, a USER (1000), a WORKDIR (/srv), an ENV (COLOUR, SHAPE)
    and a VOLUME (/made/by/nobody) that is in no layer."""


def build() -> Images:
    """Build the images where they aren't there already."""
    images = Images()
    exists = ["podman", "image", "exists", images.fussy]  # the last one built
    if subprocess.run(exists, capture_output=True).returncode == 0:
        return images
    with tempfile.TemporaryDirectory() as directory:
        _root(Path(directory) / "root")
        for name, containerfile in (
            (images.busybox, _BUSYBOX),
            (images.bare, _BARE),
            (images.fussy, _FUSSY.format(busybox=images.busybox)),
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
