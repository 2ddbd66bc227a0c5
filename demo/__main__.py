"""Runs the workload and says what happened; exits with 1 if it isn't what it should be."""

import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from demo import container, direct, pipeline, service, variants
from raytes.client import Client, ClientError
from raytes.models import TesState, TesTask

_HERE = Path(__file__).parent
_RESULTS = _HERE.parent / "demo-results"

_say = Console(highlight=False, soft_wrap=True).print


class DemoFailed(Exception):
    """The demo can't go on; the message says why."""


def main() -> None:
    """The demo from its beginning to its end."""
    files = _RESULTS / "files"
    data, results, compared = files / "data", files / "results", _RESULTS / "direct"
    _prepare(data)
    for old in (results, compared):
        shutil.rmtree(old, ignore_errors=True)

    _say("Starting raytes serve …")
    with service.running(_RESULTS, files) as client:
        _say(f"It answers at {client.server}. Four tasks, one after the other:")
        ended = [_run(client, task) for task in pipeline.tasks(data, results)]
        _say(_table(ended))
    _say("The service is stopped.")
    _compare(results / "variants.vcf", direct.run(data, compared))
    _say(f"All results are in {_relative(results)}, the service's log in {_relative(_RESULTS)}.")


def _prepare(data: Path) -> None:
    if not data.is_dir():
        _say("Fetching the genome and the reads (Debian's package bowtie2-examples) …")
        subprocess.run([_HERE / "fetch-data", data], check=True)
    _say(f"The image {pipeline.IMAGE} with bwa, samtools and bcftools …", end=" ")
    _say("is built and kept." if container.build() else "is there.")
    if configuration := container.configure():
        _say(f"Podman's defaults don't work here; using {_relative(configuration)}.")


def _run(client: Client, task: TesTask) -> TesTask:
    id = client.create(task)
    client.wait(id)
    ended = client.get(id)
    if ended.state is not TesState.COMPLETE:
        raise DemoFailed(_explanation(ended))
    return ended


def _explanation(task: TesTask) -> str:
    lines = [f"The task {task.name} ({task.id}) is {task.state}."]
    for attempt in task.logs or ():
        lines += attempt.system_logs or ()
        lines += [log.stderr for log in attempt.logs if log.stderr]
    return "\n".join(lines)


def _table(tasks: list[TesTask]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("task", "id", "state", "seconds", "exit codes"):
        table.add_column(column, no_wrap=True)
    for task in tasks:
        last = (task.logs or [])[-1]
        codes = " ".join(str(log.exit_code) for log in last.logs)
        seconds = f"{_seconds(last.start_time, last.end_time):.1f}"
        step = (task.tags or {})["step"]
        table.add_row(step, task.id, task.state.value, seconds, codes)
    return table


def _seconds(start: str | None, end: str | None) -> float:
    if start is None or end is None:
        raise DemoFailed("A task that has ended doesn't say when.")
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def _compare(service_vcf: Path, direct_vcf: Path) -> None:
    found, expected = variants.read(service_vcf), variants.read(direct_vcf)
    _say(f"{len(found)} variants in {_relative(service_vcf)};")
    _say(f"{len(expected)} by the same tools run by plain podman run, without the service.")
    if found != expected:
        raise DemoFailed("They are not the same variants.")
    _say("They are the same.")


def _relative(path: Path) -> Path:
    return path.relative_to(_HERE.parent)


if __name__ == "__main__":
    try:
        main()
    except (DemoFailed, ClientError, container.PodmanFailed, service.ServiceFailed) as failure:
        sys.exit(f"The demo failed. {failure}")
    except subprocess.CalledProcessError as failure:
        sys.exit(f"The demo failed. {failure}\n{failure.stderr or ''}")
