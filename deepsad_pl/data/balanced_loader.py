"""Data loader whose batches are half labeled anomalies, however few of them there are."""

import numpy as np
import torch
from torch import Tensor

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.batch_loader import BatchLoader

# The random stream of the draws, which differs from that of the shuffling.
_STREAM = 121


def draws_of_epoch(seed: int | None, epoch: int) -> torch.Generator:
    """The random generator of an epoch's draws with replacement; it depends only on the arguments.

    Args:
        seed: seed of the loader; None counts as 0.
        epoch: number of the epoch, counted from 0.
    """
    state = int(np.random.SeedSequence([seed or 0, epoch, _STREAM]).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state % 2**63)


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
            f"balanced batches need labeled anomalies and other samples, but {anomalies} of {len(semi_y)} training "
            "samples are labeled anomalies; change the labels, or choose another method"
        )


class BalancedLoader(BatchLoader):
    """Yields batches that alternate between other samples and labeled anomalies, both drawn with replacement.

    Number and sizes of an epoch's batches are those of a :class:`BatchLoader`. The draws depend only on the seed and
    the epoch number, so a resumed run gets the same batches as an uninterrupted one. With several ranks each takes its
    part of every global batch.

    Args:
        x: samples, shape (N, ...), uint8 pixels or float rows, on the training device.
        semi_y: semi-labels, shape (N,).
        y: ground truth, shape (N,).
        **options: as for :class:`BatchLoader`.

    Raises:
        DeepSADError: if there is no labeled anomaly, or nothing else.
    """

    def __init__(self, x: Tensor, semi_y: Tensor, y: Tensor, **options: int | float | None) -> None:
        require_both_kinds(semi_y)
        super().__init__(x, semi_y, y, **options)  # type: ignore[arg-type]
        self._others, self._anomalies = (
            torch.nonzero(kind).squeeze(1) for kind in (semi_y.cpu() != -1, semi_y.cpu() == -1)
        )

    def order(self) -> Tensor:
        """The samples of this epoch, positions with repetitions, shape (N,), on the CPU."""
        generator = draws_of_epoch(self.seed, self.epoch)
        drawn = torch.empty(len(self.x), dtype=torch.int64)
        for first, kind in enumerate((self._others, self._anomalies)):
            places = len(drawn[first::2])
            drawn[first::2] = kind[torch.randint(len(kind), (places,), generator=generator)]
        return drawn
