"""What Deep SAD and Deep SVDD share: a center fixed before training, the distance to it as the score."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from deepsad_pl.common.ranges import Length, NonNegative, Positive, require
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.losses import squared_distance
from deepsad_pl.networks.description import build_encoder, representation_width


def center_mask(semi_y: Tensor, center_from: str) -> Tensor:
    """Which samples the center is the mean of (appendix A), shape (B,), bool.

    Args:
        semi_y: semi-labels, shape (B,).
        center_from: ``unlabeled_and_normal`` (all but labeled anomalies, the paper's choice), ``all`` or
            ``labeled_normal``.
    """
    if center_from == "all":
        return torch.ones_like(semi_y, dtype=torch.bool)
    return semi_y > 0 if center_from == "labeled_normal" else semi_y >= 0


def away_from_zero(center: Tensor, margin: float = 0.1) -> Tensor:
    """Move coordinates that are nearly 0 to +-margin, an exact 0 to +margin.

    A coordinate of 0 could be met by zero weights, which is a part of the trivial solution phi = c.
    """
    near = center.abs() < margin
    return torch.where(near, torch.where(center < 0, -margin, margin), center)


@torch.no_grad()
def sum_and_count(encoder: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], center_from: str) -> Tensor:
    """The sum of the representations and, as the last entry, their number: shape (d + 1,), float64, on the CPU.

    Args:
        encoder: phi, in the mode it should be evaluated in.
        batches: of ``(x, semi_y)``.
        center_from: see :func:`center_mask`.
    """
    total: Tensor | None = None
    for x, semi_y in batches:
        mask = center_mask(semi_y, center_from)
        # Summed on the CPU in float64, which not every accelerator has.
        kept = encoder(x)[mask].cpu().double()
        part = torch.cat([kept.sum(dim=0), torch.tensor([float(len(kept))], dtype=torch.float64)])
        total = part if total is None else total + part
    if total is None:
        raise ValueError("the center cannot be computed, because there is no batch")
    return total


class HypersphereMethod(TrainedMethod):
    """Representations around a center; the score is the distance to it, equation (4).

    The center is fixed before the first step by one pass in evaluation mode over the chosen training data, summed over
    all ranks. It is a buffer: a checkpoint restores it and training never computes it again.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`.
        center_from: which samples the center is the mean of, see :func:`center_mask`.
        lr: learning rate of each phase.
        epochs: length of each phase.
        weight_decay: lambda.
    """

    center: Tensor
    center_is_set: Tensor

    def __init__(
        self,
        network: Mapping[str, Any],
        *,
        center_from: Literal["unlabeled_and_normal", "all", "labeled_normal"],
        lr: Sequence[Positive],
        epochs: Sequence[Length],
        weight_decay: NonNegative,
    ) -> None:
        super().__init__(lr=lr, epochs=epochs, weight_decay=weight_decay)
        require(HypersphereMethod.__init__, center_from=center_from)
        self.center_from = center_from
        self.encoder = build_encoder(network)
        self.register_buffer("center", torch.zeros(representation_width(network, self.encoder)))
        self.register_buffer("center_is_set", torch.tensor(False))

    def on_train_start(self) -> None:
        """Compute the center, unless a checkpoint brought it."""
        if not self.center_is_set:
            self.set_center(self._training_batches(), self._over_ranks)

    def _training_batches(self) -> Iterator[Any]:
        """The batches of an epoch as a training step meets them: on the device, in the precision of the weights."""
        loader: Any = self.trainer.train_dataloader
        if getattr(loader, "persistent_workers", False):
            # It has one iterator, which waits for the first epoch: a second pass would use that epoch up.
            loader = copy.copy(loader)
            loader._iterator = None
        for batch in loader:
            moved = self.trainer.strategy.batch_to_device(batch, self.device)
            yield self.trainer.precision_plugin.convert_input(moved)

    def _over_ranks(self, total: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return total
        return self.trainer.strategy.reduce(total.to(self.device), reduce_op="sum")

    def set_center(self, batches: Iterable[Any], over_ranks: Callable[[Tensor], Tensor] = lambda total: total) -> None:
        """Put the center at the mean of the chosen samples, away from 0 (appendix A).

        Args:
            batches: the training set, as for a training step.
            over_ranks: sums a tensor over all processes.

        Raises:
            ValueError: if no sample is chosen.
        """
        training = self.encoder.training
        self.encoder.eval()
        total = over_ranks(sum_and_count(self.encoder, map(self.training_part, batches), self.center_from))
        self.encoder.train(training)
        if total[-1] == 0:
            raise ValueError(f"center_from is {self.center_from!r}, but there is no training sample of that kind")
        self.center.copy_(away_from_zero(total[:-1] / total[-1]))
        self.center_is_set.fill_(True)

    def distance2(self, x: Tensor) -> Tensor:
        """The squared distances to the center, shape (B,)."""
        return squared_distance(self.encoder(x), self.center)

    def score(self, x: Tensor) -> Tensor:
        """The distance to the center, equation (4), shape (B,)."""
        return self.distance2(x).sqrt()
