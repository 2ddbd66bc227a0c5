"""Virtual environments of the clients, each with its own: they need what excludes each other."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[2] / ".make" / "clients"


class CannotInstall(Exception):
    """The packages of a client can't be had here; the message says why."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment below `.make/clients`, made once and kept."""

    directory: Path

    def program(self, name: str) -> str:
        return str(self.directory / "bin" / name)

    @property
    def site_packages(self) -> Path:
        [found] = self.directory.glob("lib/python3*/site-packages")
        return found


def environment(name: str, *requirements: str, python: str = sys.executable) -> Environment:
    """The environment `name` with what `requirements` ask for, made if it isn't there.

    Raises:
        CannotInstall: pip can't install it; the message has pip's own words.
    """
    directory = _ROOT / name
    # Written last: what was broken off is made anew.
    made = directory / "requirements.txt"
    wanted = "".join(f"{requirement}\n" for requirement in requirements)
    if not made.is_file() or made.read_text() != wanted:
        shutil.rmtree(directory, ignore_errors=True)
        # A pip of its own takes as long to install as all else; ours knows no much older Python.
        ours = python == sys.executable
        _run(python, "-m", "venv", *(["--without-pip"] if ours else []), str(directory))
        its = str(directory / "bin" / "python")
        pip = [sys.executable, "-m", "pip", "--python", its] if ours else [its, "-m", "pip"]
        _run(*pip, "install", "--quiet", "--no-compile", *requirements)
        made.write_text(wanted)
    return Environment(directory)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CannotInstall(f"{' '.join(command)}: {done.stderr[-500:]}")


def python(version: str) -> str:
    """A Python of that version, from the PATH or pyenv.

    Raises:
        CannotInstall: there is none.
    """
    if found := shutil.which(f"python{version}"):
        works = subprocess.run([found, "--version"], capture_output=True).returncode == 0
        if works:  # a shim of pyenv is there for versions that aren't chosen, too
            return found
    for found in sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python")):
        return str(found)
    raise CannotInstall(f"there is no Python {version} on the PATH or in ~/.pyenv")
