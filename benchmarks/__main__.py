"""`make bench`: all measures in one go, as one table of ratios."""

import argparse
import tempfile
from pathlib import Path

from benchmarks import dispatch, lists, requests, start, storage, tasks
from benchmarks.result import Result
from benchmarks.service import running
from benchmarks.table import print_results
from tests import images


def main() -> None:
    """Run the measures that were asked for, and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only",
        choices=["tasks", "requests", "lists", "dispatch", "start", "storage"],
        help="one group",
    )
    parser.add_argument("--tasks", type=int, default=200, help="how many tasks are drained")
    parser.add_argument("--rows", type=int, default=1_000_000, help="how many tasks lists have")
    options = parser.parse_args()
    built = images.build()
    images.adapt_podman(built)
    found: list[Result] = []
    with tempfile.TemporaryDirectory() as directory:
        if options.only in (None, "start"):
            found += start.measure(Path(directory))
        if options.only in (None, "lists"):
            found += lists.measure(Path(directory), many=options.rows)
        if options.only == "dispatch":
            lists.filled(Path(directory) / lists.MANY, options.rows).close()
        if options.only in (None, "dispatch"):
            found += dispatch.measure(Path(directory) / lists.MANY)
        if options.only in (None, "storage"):
            objects = Path(directory) / "objects"
            objects.mkdir()
            found += storage.measure(objects, size=10**9, files=2000, rounds=3)
            found += storage.measure_tasks(
                Path(directory) / "storage", built.busybox, size=10**9, shared=2 * 10**8, tasks=20
            )
        if options.only in (None, "tasks", "requests"):
            with running(Path(directory) / "state", RAYTES_NETWORK="none") as service:
                if options.only in (None, "tasks"):
                    found += tasks.measure(service, built.busybox, tasks=options.tasks)
                if options.only in (None, "requests"):
                    service.deploy_constant()
                    found += requests.measure(service, built.busybox)
    print_results(found)


main()
