"""The same tools on the same data by plain `podman run`: what the service is checked against."""

import subprocess
from pathlib import Path

from demo.pipeline import GENOME, IMAGE, READS

_COMMANDS = (
    f"cp /data/{GENOME} /out/{GENOME}",
    f"samtools faidx /out/{GENOME}",
    f"bwa index /out/{GENOME}",
    f"bwa mem -o /out/aligned.sam /out/{GENOME} /data/{READS[0]} /data/{READS[1]}",
    "samtools sort -o /out/sorted.bam /out/aligned.sam",
    f"bcftools mpileup -Ou -f /out/{GENOME} -o /out/pileup.bcf /out/sorted.bam",
    "bcftools call --ploidy 1 -mv -Ov -o /out/variants.vcf /out/pileup.bcf",
)


def run(data: Path, results: Path) -> Path:
    """Runs the tools one after the other and returns the VCF file.

    Raises:
        subprocess.CalledProcessError: a tool failed; its stderr is in the exception.
    """
    results.mkdir(parents=True, exist_ok=True)
    mounts = (f"--volume={data}:/data:ro", f"--volume={results}:/out")
    for command in _COMMANDS:
        subprocess.run(
            ["podman", "run", "--rm", "--network=none", *mounts, IMAGE, *command.split()],
            check=True,
            capture_output=True,
            text=True,
        )
    return results / "variants.vcf"
