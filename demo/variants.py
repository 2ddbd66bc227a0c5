"""Reading the variants of a VCF file."""

from pathlib import Path
from typing import NamedTuple


class Variant(NamedTuple):
    """A place where the reads differ from the reference genome."""

    chromosome: str
    position: int  # counted from 1, as VCF does
    reference: str
    alternative: str
    quality: float


def read(vcf: Path) -> list[Variant]:
    """The variants of an uncompressed VCF file, in its order."""
    variants = []
    with vcf.open() as lines:
        for line in lines:
            if line.startswith("#"):
                continue
            chromosome, position, _, reference, alternative, quality, *_ = line.split("\t")
            variants.append(
                Variant(chromosome, int(position), reference, alternative, float(quality))
            )
    return variants
