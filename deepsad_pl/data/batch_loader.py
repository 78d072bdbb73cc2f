"""Batches drawn by index from tensors that sit on the training device."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from deepsad_pl.common.batch import Batch


def batch_sizes(samples: int, batch_size: int) -> list[int]:
    """ceil(samples / batch_size) sizes that differ by at most one, the larger ones first."""
    batches = -(-samples // batch_size)
    return [samples // batches + (i < samples % batches) for i in range(batches)]


class BatchLoader:
    """Yields ``(x, semi_y, y, idx)``: no worker process, no per-sample Python, no tiny last batch.

    An epoch over N samples has ceil(N / batch_size) batches whose sizes differ by at most one. The order of an epoch
    depends on the seed and the epoch's number alone, so a resumed run meets the batches that an undisturbed one does.
    Under several ranks each takes its part of every global batch; nothing is padded.

    Args:
        x: samples, shape (N, ...), uint8 pixels or float rows, on the training device.
        semi_y: semi-labels, shape (N,).
        y: ground truth, shape (N,).
        batch_size: the global batch size, >= 1.
        scale: what pixels are divided by, so that they lie in [0, 1]; None leaves x as it is.
        seed: of the shuffling; None keeps the order.
        rank: of this process.
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

    # Lightning asks every loader with a sampler for it.
    batch_sampler = None

    @property
    def sampler(self) -> "BatchLoader":
        """Where Lightning looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration takes."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch_size)

    def order(self) -> Tensor:
        """The permutation of this epoch, shape (N,), on the CPU."""
        if self.seed is None:
            return torch.arange(len(self.x))
        # Seeds from numpy's SeedSequence: neighbouring (seed, epoch) pairs must not share a stream.
        state = int(np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)[0])
        generator = torch.Generator().manual_seed(state % 2**63)
        return torch.randperm(len(self.x), generator=generator)

    def __iter__(self) -> Iterator[Batch]:
        # The one transfer of an epoch; the device is not waited for.
        order = self.order().to(self.x.device, non_blocking=True)
        for part in torch.split(order, batch_sizes(len(self.x), self.batch_size)):
            if self.world_size > 1:
                part = part.tensor_split(self.world_size)[self.rank]
            x = self.x[part]
            if self.scale is not None:
                x = x.float().div_(self.scale)
            yield x, self.semi_y[part], self.y[part], part
