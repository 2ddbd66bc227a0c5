"""Two steps with a file between them, or one that fails: toil_steps.py JOBSTORE RESULT [--fail]."""

import sys

from toil.common import Toil
from toil.job import Job

NEEDS = {"cores": 1, "memory": "512Mi", "disk": "100Mi"}


def steps(job: Job) -> str:
    before = job.addChildJobFn(first, **NEEDS)
    return before.addFollowOnJobFn(second, before.rv(), **NEEDS).rv()


def first(job: Job) -> str:
    with job.fileStore.writeGlobalFileStream() as (stream, file_id):
        stream.write(b"one\n")
    return file_id


def second(job: Job, before: str) -> str:
    with (
        job.fileStore.readGlobalFileStream(before) as given,
        job.fileStore.writeGlobalFileStream() as (stream, file_id),
    ):
        stream.write(given.read() + b"two\n")
    return file_id


def fail(job: Job) -> None:
    raise RuntimeError("in vain")


def main() -> None:
    parser = Job.Runner.getDefaultArgumentParser()
    parser.add_argument("result")
    parser.add_argument("--fail", action="store_true")
    options = parser.parse_args()
    with Toil(options) as toil:
        if options.fail:
            toil.start(Job.wrapJobFn(fail, **NEEDS))
            sys.exit("the failing step was not seen")
        toil.exportFile(toil.start(Job.wrapJobFn(steps, **NEEDS)), f"file://{options.result}")


if __name__ == "__main__":
    main()
