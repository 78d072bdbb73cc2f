"""Data loaders whose samples are pairs or triplets of training samples, with known anomalies at fixed places."""

from collections.abc import Iterator

import torch
from torch import Tensor

from deepsad_pl.common.batch import Batch
from deepsad_pl.data.balanced_loader import LabeledDraws, drawn, drawn_pairs
from deepsad_pl.data.batch_loader import BatchLoader, batch_sizes


class TupleLoader(LabeledDraws):
    """Base class of loaders that draw tuples of k samples; an epoch has as many tuples as there are samples.

    Batches are ``(x, semi_y, y, idx)``: x of shape (B, k, ...); semi_y (B,), minus the number of known anomalies in the
    tuple; y and idx (B,) of its first sample. The draws depend only on the seed and the epoch number. With several
    ranks each takes its part of every global batch.
    """

    def samples(self) -> BatchLoader:
        """A loader of single samples, in the order of the epoch."""
        options = {"batch_size": self.batch_size, "rank": self.rank, "world_size": self.world_size}
        found = BatchLoader(self.x, self.semi_y, self.y, scale=self.scale, seed=self.seed, **options)
        found.set_epoch(self.epoch)
        return found

    def labels(self, semi_y: Tensor) -> Tensor:
        """Minus the number of known anomalies in each tuple: semi-labels (..., k) -> (...)."""
        return semi_y.clamp(max=0).sum(dim=-1)

    def __iter__(self) -> Iterator[Batch]:
        order = self.order().to(self.x.device, non_blocking=True)
        for part in torch.split(order, batch_sizes(len(self.x), self.batch_size)):
            if self.world_size > 1:
                part = part.tensor_split(self.world_size)[self.rank]
            x = self.x[part]
            if self.scale is not None:
                x = x.float().div_(self.scale)
            yield x, self.labels(self.semi_y[part]), self.y[part[:, 0]], part[:, 0]


class PairLoader(TupleLoader):
    """Yields pairs: in turn two of two other samples, one of another sample and an anomaly, and one of two anomalies.

    The members of a pair of one kind differ, unless there is only one sample of that kind.
    """

    shape = (2,)

    def order(self) -> Tensor:
        """The pairs of this epoch, positions of shape (N, 2), on the CPU."""
        generator = self.generator()
        others, anomalies = (drawn_pairs(kind, len(self.x), generator) for kind in (self.others, self.anomalies))
        place = torch.arange(len(self.x)) % 4
        first = torch.where(place == 3, anomalies[:, 0], others[:, 0])
        second = torch.where(place < 2, others[:, 1], anomalies[:, 1])
        return torch.stack([first, second], dim=1)


class TripletLoader(TupleLoader):
    """Yields triplets of two other samples and an anomaly; the other samples differ unless there is only one."""

    shape = (3,)

    def order(self) -> Tensor:
        """The triplets of this epoch, positions of shape (N, 3), on the CPU."""
        generator = self.generator()
        others = drawn_pairs(self.others, len(self.x), generator)
        return torch.cat([others, drawn(self.anomalies, len(self.x), generator)[:, None]], dim=1)
