"""Data loader that draws batches by index from tensors on the training device."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from deepsad_pl.common.batch import Batch


def batch_sizes(samples: int, batch_size: int) -> list[int]:
    """The batch sizes of an epoch: ceil(samples / batch_size) sizes that differ by at most one, larger ones first."""
    batches = -(-samples // batch_size)
    return [samples // batches + (i < samples % batches) for i in range(batches)]


class BatchLoader:
    """Yields batches ``(x, semi_y, y, idx)`` without worker processes, per-sample Python or a tiny last batch.

    An epoch over N samples has ceil(N / batch_size) batches whose sizes differ by at most one. The order of an epoch
    depends only on the seed and the epoch number, so a resumed run gets the same batches as an uninterrupted one.
    With several ranks each takes its part of every global batch; nothing is padded.

    Args:
        x: samples, shape (N, ...), uint8 pixels or float rows, on the training device.
        semi_y: semi-labels, shape (N,).
        y: ground truth, shape (N,).
        batch_size: the global batch size, >= 1.
        scale: divisor that brings pixels into [0, 1]; None leaves x unchanged.
        seed: seed of the shuffling; None keeps the order.
        rank: rank of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        x: Tensor,
        semi_y: Tensor,
        y: Tensor,
        *,
        batch_size: int,
        scale: float | None = None,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.x, self.semi_y, self.y = x, semi_y, y
        self.batch_size = batch_size
        self.scale = scale
        self.seed = seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    # Lightning reads this attribute from every loader that has a sampler.
    batch_sampler = None
    # Shape of what is drawn at once: () for single samples, (k,) for tuples of k samples.
    shape: tuple[int, ...] = ()

    @property
    def sampler(self) -> "BatchLoader":
        """The loader itself, since Lightning calls ``set_epoch`` on a loader's sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which determines the order of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch_size)

    def samples(self) -> "BatchLoader":
        """A loader of single samples, which this one is."""
        return self

    def labels(self, semi_y: Tensor) -> Tensor:
        """The label of what is drawn at once, from the semi-labels of its samples: ``(..., *shape)`` to ``(...)``."""
        return semi_y

    def order(self) -> Tensor:
        """The order of the samples in this epoch, a permutation of shape (N,) on the CPU."""
        if self.seed is None:
            return torch.arange(len(self.x))
        # SeedSequence, because neighbouring (seed, epoch) pairs must not share a stream.
        state = int(np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)[0])
        generator = torch.Generator().manual_seed(state % 2**63)
        return torch.randperm(len(self.x), generator=generator)

    def __iter__(self) -> Iterator[Batch]:
        # The only transfer of an epoch; it does not wait for the device.
        order = self.order().to(self.x.device, non_blocking=True)
        for part in torch.split(order, batch_sizes(len(self.x), self.batch_size)):
            if self.world_size > 1:
                part = part.tensor_split(self.world_size)[self.rank]
            x = self.x[part]
            if self.scale is not None:
                x = x.float().div_(self.scale)
            yield x, self.semi_y[part], self.y[part], part
