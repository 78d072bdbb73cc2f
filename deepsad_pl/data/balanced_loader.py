"""Data loader whose batches are half labeled anomalies, however few of them there are."""

import numpy as np
import torch
from torch import Tensor

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.batch_loader import BatchLoader

# The random stream of the draws, which differs from that of the shuffling.
_STREAM = 121


def require_both_kinds(semi_y: Tensor) -> None:
    """Check that there is something to draw from.

    Args:
        semi_y: semi-labels, shape (N,).

    Raises:
        DeepSADError: if there is no labeled anomaly, or nothing else.
    """
    anomalies = int((semi_y == -1).sum())
    if not 0 < anomalies < len(semi_y):
        raise DeepSADError(
            f"the method draws both labeled anomalies and other samples, but {anomalies} of {len(semi_y)} training "
            "samples are labeled anomalies; change the labels, or choose another method"
        )


class LabeledDraws(BatchLoader):
    """Base class of loaders that draw labeled anomalies and other samples apart, with replacement.

    Number and sizes of an epoch's batches are those of a :class:`BatchLoader`. The draws depend only on the seed and
    the epoch number, so a resumed run gets the same batches as an uninterrupted one. With several ranks each takes its
    part of every global batch.

    Args:
        x: samples, shape (N, ...), uint8 pixels or float rows, on the training device.
        semi_y: semi-labels, shape (N,).
        y: ground truth, shape (N,).
        **options: as for :class:`BatchLoader`.

    Attributes:
        others: positions of the samples that are no labeled anomalies, on the CPU.
        anomalies: positions of the labeled anomalies, on the CPU.

    Raises:
        DeepSADError: if there is no labeled anomaly, or nothing else.
    """

    def __init__(self, x: Tensor, semi_y: Tensor, y: Tensor, **options: int | float | None) -> None:
        require_both_kinds(semi_y)
        super().__init__(x, semi_y, y, **options)  # type: ignore[arg-type]
        is_anomaly = semi_y.cpu() == -1
        self.others, self.anomalies = (torch.nonzero(kind).squeeze(1) for kind in (~is_anomaly, is_anomaly))

    def generator(self) -> torch.Generator:
        """The random generator of this epoch's draws."""
        state = int(np.random.SeedSequence([self.seed or 0, self.epoch, _STREAM]).generate_state(1, np.uint64)[0])
        return torch.Generator().manual_seed(state % 2**63)


def drawn(positions: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw positions with replacement, shape (count,).

    Args:
        positions: the positions to choose from, shape (n,).
        count: number of draws.
        generator: the random generator.
    """
    return positions[torch.randint(len(positions), (count,), generator=generator)]


def drawn_pairs(positions: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw pairs of different positions, shape (count, 2); of equal ones if there is only one position.

    Args:
        positions: the positions to choose from, shape (n,).
        count: number of pairs.
        generator: the random generator.
    """
    total = len(positions)
    first = torch.randint(total, (count,), generator=generator)
    steps = torch.randint(max(total - 1, 1), (count,), generator=generator) + 1
    return positions[torch.stack([first, (first + steps) % total], dim=1)]


class BalancedLoader(LabeledDraws):
    """Yields batches that alternate between other samples and labeled anomalies."""

    def order(self) -> Tensor:
        """The samples of this epoch, positions with repetitions, shape (N,), on the CPU."""
        generator = self.generator()
        order = torch.empty(len(self.x), dtype=torch.int64)
        for first, kind in enumerate((self.others, self.anomalies)):
            order[first::2] = drawn(kind, len(order[first::2]), generator)
        return order
