"""The workload as four TES tasks that feed each other: index, align, sort, call."""

from pathlib import Path

from raytes.models import (
    TesExecutor,
    TesFileType,
    TesInput,
    TesOutput,
    TesResources,
    TesTask,
)

IMAGE = "localhost/raytes-demo"
TOOLS = ("bwa", "samtools", "bcftools")

GENOME = "lambda_virus.fa"
READS = ("reads_1.fq.gz", "reads_2.fq.gz")


def tasks(data: Path, results: Path) -> list[TesTask]:
    """The tasks in their order. Each reads what those before it have put into `results`.

    `data` holds GENOME and READS; both directories lie under a local root of the service.
    """
    return [_index(data, results), _align(data, results), _sort(results), _call(results)]


def _index(data: Path, results: Path) -> TesTask:
    """Three executors fill one directory, which is the output."""
    return _task(
        "index",
        inputs=[_input(data / GENOME, f"/data/{GENOME}")],
        executors=[
            _run("cp", f"/data/{GENOME}", f"/index/{GENOME}"),
            _run("samtools", "faidx", f"/index/{GENOME}"),
            _run("bwa", "index", f"/index/{GENOME}"),
        ],
        outputs=[_output("/index", results / "index", TesFileType.DIRECTORY)],
    )


def _align(data: Path, results: Path) -> TesTask:
    """The alignment is what bwa writes to its stdout."""
    reads = [f"/reads/{name}" for name in READS]
    return _task(
        "align",
        inputs=[
            _input(results / "index", "/index", TesFileType.DIRECTORY),
            *(_input(data / name, path) for name, path in zip(READS, reads, strict=True)),
        ],
        executors=[_run("bwa", "mem", f"/index/{GENOME}", *reads, stdout="/out/aligned.sam")],
        outputs=[_output("/out/aligned.sam", results / "aligned.sam")],
    )


def _sort(results: Path) -> TesTask:
    """samtools reads the alignment from its stdin; a wildcard finds both files."""
    files = _output("/out/sorted.bam*", results)
    files.path_prefix = "/out/"
    return _task(
        "sort",
        inputs=[_input(results / "aligned.sam", "/in/aligned.sam")],
        executors=[
            _run("samtools", "sort", "-o", "/out/sorted.bam", "-", stdin="/in/aligned.sam"),
            _run("samtools", "index", "/out/sorted.bam"),
        ],
        outputs=[files],
    )


def _call(results: Path) -> TesTask:
    """The pileup goes from one executor to the next through a volume."""
    reference, alignment = f"/index/{GENOME}", "/in/sorted.bam"
    pileup, variants = "/pileup/pileup.bcf", "/out/variants.vcf"
    return _task(
        "call",
        inputs=[
            _input(results / "index", "/index", TesFileType.DIRECTORY),
            _input(results / "sorted.bam", alignment),
            _input(results / "sorted.bam.bai", f"{alignment}.bai"),
        ],
        executors=[
            _run("bcftools", "mpileup", "-Ou", "-f", reference, "-o", pileup, alignment),
            _run("bcftools", "call", "--ploidy", "1", "-mv", "-Ov", "-o", variants, pileup),
        ],
        outputs=[_output(variants, results / "variants.vcf")],
        volumes=["/pileup"],
    )


def _task(
    name: str,
    *,
    inputs: list[TesInput],
    executors: list[TesExecutor],
    outputs: list[TesOutput],
    volumes: list[str] | None = None,
) -> TesTask:
    return TesTask(
        name=f"lambda-phage/{name}",
        inputs=inputs,
        outputs=outputs,
        resources=TesResources(cpu_cores=1, ram_gb=1),
        executors=executors,
        volumes=volumes,
        tags={"pipeline": "lambda-phage", "step": name},
    )


def _run(*command: str, stdin: str | None = None, stdout: str | None = None) -> TesExecutor:
    return TesExecutor(image=IMAGE, command=[*command], stdin=stdin, stdout=stdout)


def _input(file: Path, path: str, type: TesFileType = TesFileType.FILE) -> TesInput:
    return TesInput(url=file.as_uri(), path=path, type=type)


def _output(path: str, file: Path, type: TesFileType = TesFileType.FILE) -> TesOutput:
    return TesOutput(path=path, url=file.as_uri(), type=type)
