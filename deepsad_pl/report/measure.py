"""What a table shows of an experiment: one of the package's metrics, in percent, or a metric of the user's own."""

import math
from dataclasses import dataclass

_LABELS = {
    "auroc": "AUROC",
    "auroc_known": "AUROC of known anomalies",
    "auroc_novel": "AUROC of novel anomalies",
    "average_precision": "average precision",
    "auroc_fpr_10": "partial AUROC (FPR at most 10 %)",
    "recall_fpr_1": "recall at an FPR of at most 1 %",
    "recall_fpr_5": "recall at an FPR of at most 5 %",
}


@dataclass(frozen=True)
class Measure:
    """A metric and how its values are written.

    Attributes:
        name: name of the metric, a column of a study's results.
        label: the metric in words.
        in_percent: whether it lies in [0, 1] and is shown in percent; a metric of the user's own is shown as it is.
    """

    name: str
    label: str
    in_percent: bool = True

    @property
    def factor(self) -> float:
        """The factor between the metric and the numbers of a table."""
        return 100.0 if self.in_percent else 1.0

    @property
    def unit(self) -> str:
        """The label of a figure's axis."""
        return f"{self.label} in %" if self.in_percent else self.label

    @property
    def highest(self) -> float:
        """The largest number that a table can have."""
        return 100.0 if self.in_percent else math.inf

    def number(self, value: float) -> str:
        """Format a number of a table."""
        return f"{value:.1f}" if self.in_percent else f"{value:.4g}"

    def plus_minus(self, mean: float, std: float) -> str:
        """Format as ``96.7 ± 2.4``, or as the mean alone without a std."""
        return self.number(mean) if math.isnan(std) else f"{self.number(mean)} ± {self.number(std)}"


def measure_of(name: str) -> Measure:
    """The measure of a metric's name."""
    return Measure(name, _LABELS.get(name, name), name in _LABELS)


AUROC = measure_of("auroc")
