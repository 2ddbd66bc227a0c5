"""A conmon without Podman's exit command.

When a container ends, conmon runs `podman container cleanup`: a whole process of Podman, which
costs as much CPU as half of a short container, to release what the removal of the container
releases too. Every container here is removed right after its end, or by a sweep after its
runner's, so conmon is started by way of a script that leaves that command out.
"""

import shlex
import subprocess
from contextlib import suppress
from pathlib import Path

_SCRIPT = """\
#!/bin/sh
left=$#
while [ "$left" -gt 0 ]; do
    case $1 in
    --exit-command | --exit-command-arg) shift 2 && left=$((left - 2)) ;;
    *) set -- "$@" "$1" && shift && left=$((left - 1)) ;;
    esac
done
exec {conmon} "$@"
"""


def podmans_conmon() -> str | None:
    """The path of Podman's conmon; None where it isn't known."""
    command = ["podman", "info", "--format", "{{.Host.Conmon.Path}}"]
    try:
        found = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip() or None


def write_lean_conmon(script: Path, conmon: str) -> bool:
    """Write the script that runs a conmon; False where nothing there can be run."""
    try:
        script.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        script.write_text(_SCRIPT.format(conmon=shlex.quote(conmon)))
        script.chmod(0o700)
        subprocess.run(
            [script, "--version"], stdin=subprocess.DEVNULL, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):  # not writable, full, or mounted noexec
        with suppress(OSError):
            script.unlink()
        return False
    return True


def is_lean(conmon: int) -> bool:
    """Whether a conmon, by its pid, runs nothing of Podman's at its container's end.

    One that can't be seen is taken for an ordinary one.
    """
    try:
        return b"--exit-command" not in Path(f"/proc/{conmon}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
