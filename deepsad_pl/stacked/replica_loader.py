"""Batches of many replicas, each drawn as its own loader would draw them."""

from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from deepsad_pl.data.batch_loader import BatchLoader, batch_sizes
from deepsad_pl.stacked.replica_norm import Rows

# (x, semi_y, rows): input (K, B, ...), semi-labels (K, B), which of the B rows of each replica count.
StackedBatch = tuple[Tensor, Tensor, Rows]
# Steps of a chunk.
_CHUNK = 16


class StackedLoader:
    """Yields iterators over ``(x, semi_y, rows)``: in step i of an epoch the i-th batch of every replica that has one.

    A chunk of steps is one batch to the Trainer, whose work around each costs as much as a step of a small MLP. Take
    the steps of a chunk before those of the next one.

    Replicas may differ in their number of samples, batches and batch size. Smaller batches are filled up with rows that
    do not count; replicas without a batch are left out, which are always the last ones.

    Args:
        loaders: of the replicas, each with its own seed, on one device, with the most batches first.

    Raises:
        ValueError: if they are not sorted, or their samples differ in shape, type or scale.
    """

    # Lightning asks every loader with a sampler for it.
    batch_sampler = None

    def __init__(self, loaders: Sequence[BatchLoader]) -> None:
        self.loaders = list(loaders)
        first = loaders[0]
        counts = [len(loader) for loader in loaders]
        if counts != sorted(counts, reverse=True):
            raise ValueError(f"the replicas have {counts} batches; give those with the most first")
        kinds = {(loader.x.shape[1:], loader.x.dtype, loader.scale) for loader in loaders}
        if len(kinds) > 1:
            raise ValueError(f"the samples of the replicas differ in shape, type or scale: {kinds}")
        self._scale, self._device = first.scale, first.x.device
        self._sizes = [batch_sizes(len(loader.x), loader.batch_size) for loader in loaders]
        self._x = torch.cat([loader.x for loader in loaders])
        self._semi_y = torch.cat([loader.semi_y for loader in loaders])
        self._first_row = torch.tensor([0, *(len(loader.x) for loader in loaders[:-1])]).cumsum(0).tolist()
        for loader, part in zip(loaders, self._x.split_with_sizes([len(loader.x) for loader in loaders]), strict=True):
            loader.x = part  # one copy is enough
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
        """Where Lightning looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose orders the next iteration takes."""
        self.epoch = epoch
        for loader in self.loaders:
            loader.set_epoch(epoch)

    @property
    def pads(self) -> bool:
        """Whether a batch of some replica is ever smaller than that of another."""
        return any(rows.valid is not None for rows in self._rows)

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return len(self._rows)

    def __len__(self) -> int:
        """How many chunks an epoch has."""
        return -(-self.steps // _CHUNK)

    def positions(self) -> Tensor:
        """Which rows of the stacked data each step of this epoch takes, shape (steps, K, B), on the CPU."""
        width = max(max(sizes) for sizes in self._sizes)
        positions = torch.empty(self.steps, len(self.loaders), width, dtype=torch.int64)
        for k, (loader, sizes, first) in enumerate(zip(self.loaders, self._sizes, self._first_row, strict=True)):
            order = loader.order() + first
            positions[:, k] = first  # padding: any row of its own
            # The larger batches come first, and differ by one from the others.
            large = sizes.count(sizes[0])
            split = large * sizes[0]
            positions[:large, k, : sizes[0]] = order[:split].view(large, sizes[0])
            if large < len(sizes):
                positions[large : len(sizes), k, : sizes[-1]] = order[split:].view(-1, sizes[-1])
        return positions

    def __iter__(self) -> Iterator[Iterator[StackedBatch]]:
        # The one transfer of an epoch; the device is not waited for.
        positions = self.positions().to(self._device, non_blocking=True)
        steps = self._batches(positions, self._semi_y[positions])
        for first in range(0, self.steps, _CHUNK):
            yield islice(steps, min(_CHUNK, self.steps - first))

    def _batches(self, positions: Tensor, semi_y: Tensor) -> Iterator[StackedBatch]:
        for step, rows in enumerate(self._rows):
            active, width = len(rows.weight), rows.weight.shape[2]
            part = positions[step, :active, :width]
            x = self._x.index_select(0, part.flatten())
            if self._scale is not None:
                x = x.float().div_(self._scale)
            yield x.view(active, width, *x.shape[1:]), semi_y[step, :active, :width], rows
