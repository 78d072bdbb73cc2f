"""Batches of many replicas, each drawn as its own loader would draw them."""

from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from deepsad_pl.data.batch_loader import BatchLoader, batch_sizes
from deepsad_pl.stacked.replica_norm import Rows

# (x, semi_y, rows): input (K, B, ...), semi-labels (K, B), which of each replica's B rows are not padding.
StackedBatch = tuple[Tensor, Tensor, Rows]
# Steps per chunk.
_CHUNK = 16


class StackedLoader:
    """Yields iterators over ``(x, semi_y, rows)``; step i holds the i-th batch of every replica that has one.

    The Trainer treats a chunk of steps as one batch, since its overhead per batch costs as much as a small MLP's step.
    Consume all steps of a chunk before the next chunk.

    Replicas may differ in their number of samples, number of batches and batch size. Smaller batches are padded.
    Replicas without a batch in a step, always the last ones, are left out.

    Args:
        loaders: loaders of the replicas, each with its own seed, on one device, sorted by decreasing number of batches.

    Raises:
        ValueError: if the loaders are not sorted, or their samples differ in shape, type or scale.
    """

    # Lightning requires this of every loader that has a sampler.
    batch_sampler = None

    def __init__(self, loaders: Sequence[BatchLoader]) -> None:
        self.loaders = list(loaders)
        first = loaders[0]
        counts = [len(loader) for loader in loaders]
        if counts != sorted(counts, reverse=True):
            raise ValueError(f"the replicas have {counts} batches; order them by that number, largest first")
        kinds = {(loader.x.shape[1:], loader.x.dtype, loader.scale, loader.shape) for loader in loaders}
        if len(kinds) > 1:
            raise ValueError(f"the samples of the replicas differ in shape, type or scale: {kinds}")
        self._scale, self._device = first.scale, first.x.device
        self._sizes = [batch_sizes(len(loader.x), loader.batch_size) for loader in loaders]
        self._x = torch.cat([loader.x for loader in loaders])
        self._semi_y = torch.cat([loader.semi_y for loader in loaders])
        self._first_row = torch.tensor([0, *(len(loader.x) for loader in loaders[:-1])]).cumsum(0).tolist()
        for loader, part in zip(loaders, self._x.split_with_sizes([len(loader.x) for loader in loaders]), strict=True):
            loader.x = part  # share memory with the stacked data
        self._rows = self._rows_of_steps()
        self.epoch = 0

    def _rows_of_steps(self) -> list[Rows]:
        made: dict[tuple[int, ...], Rows] = {}
        steps: list[Rows] = []
        for step in range(len(self._sizes[0])):
            sizes = tuple(of_replica[step] for of_replica in self._sizes if step < len(of_replica))
            if sizes not in made:
                made[sizes] = Rows.of(sizes, self._x)
            steps.append(made[sizes])
        return steps

    @property
    def sampler(self) -> "StackedLoader":
        """The object on which Lightning calls ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which determines the order of the samples in the next iteration."""
        self.epoch = epoch
        for loader in self.loaders:
            loader.set_epoch(epoch)

    @property
    def pads(self) -> bool:
        """Whether any step of an epoch pads a batch, because replicas differ in batch size."""
        return any(rows.valid is not None for rows in self._rows)

    @property
    def steps(self) -> int:
        """Number of steps per epoch."""
        return len(self._rows)

    def __len__(self) -> int:
        """Number of chunks per epoch."""
        return -(-self.steps // _CHUNK)

    def positions(self) -> Tensor:
        """The row indices into the stacked data for each step of this epoch, shape (steps, K, B), on the CPU.

        For loaders that draw tuples of k samples, the shape is (steps, K, B, k).
        """
        width = max(max(sizes) for sizes in self._sizes)
        at_once = self.loaders[0].shape
        positions = torch.empty(self.steps, len(self.loaders), width, *at_once, dtype=torch.int64)
        for k, (loader, sizes, first) in enumerate(zip(self.loaders, self._sizes, self._first_row, strict=True)):
            order = loader.order() + first
            positions[:, k] = first  # padding: repeat any row of the replica
            # Batch sizes differ by at most one, with the larger batches first.
            large = sizes.count(sizes[0])
            split = large * sizes[0]
            positions[:large, k, : sizes[0]] = order[:split].view(large, sizes[0], *at_once)
            if large < len(sizes):
                positions[large : len(sizes), k, : sizes[-1]] = order[split:].view(-1, sizes[-1], *at_once)
        return positions

    def __iter__(self) -> Iterator[Iterator[StackedBatch]]:
        # The only transfer of an epoch; asynchronous.
        positions = self.positions().to(self._device, non_blocking=True)
        steps = self._batches(positions, self.loaders[0].labels(self._semi_y[positions]))
        for first in range(0, self.steps, _CHUNK):
            yield islice(steps, min(_CHUNK, self.steps - first))

    def _batches(self, positions: Tensor, semi_y: Tensor) -> Iterator[StackedBatch]:
        for step, rows in enumerate(self._rows):
            active, width = len(rows.weight), rows.weight.shape[2]
            part = positions[step, :active, :width]
            x = self._x.index_select(0, part.flatten())
            if self._scale is not None:
                x = x.float().div_(self._scale)
            yield x.view(*part.shape, *x.shape[1:]), semi_y[step, :active, :width], rows
