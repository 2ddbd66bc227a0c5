"""What a measure has found."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table: a ratio to a reference of the same run, and what it must reach."""

    measure: str
    ratio: float | None
    must: float | None
    better: Literal["more", "less"]
    ours: str  # with its unit, for information
    reference: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the ratio is what it must be; None where there is nothing to reach."""
        if self.ratio is None or self.must is None:
            return None
        return self.ratio >= self.must if self.better == "more" else self.ratio <= self.must


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie, such as 0.95."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)
