"""Scripts that stand in the place of programs."""

from pathlib import Path


def write_script(path: Path, script: str) -> None:
    """A shell script that can be run."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
