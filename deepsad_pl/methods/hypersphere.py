"""Base class of Deep SAD and Deep SVDD: a center fixed before training, and the distance to it as the score."""

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
    """Select the samples whose mean becomes the center (appendix A); a bool mask of shape (B,).

    Args:
        semi_y: semi-labels, shape (B,).
        center_from: ``unlabeled_and_normal`` (all but labeled anomalies, the paper's choice), ``all`` or
            ``labeled_normal``.
    """
    if center_from == "all":
        return torch.ones_like(semi_y, dtype=torch.bool)
    return semi_y > 0 if center_from == "labeled_normal" else semi_y >= 0


def away_from_zero(center: Tensor, margin: float = 0.1) -> Tensor:
    """Move coordinates that are close to 0 to +-margin, and those that are exactly 0 to +margin.

    A center coordinate of 0 can be reached with zero weights, as part of the trivial solution phi = c.
    """
    near = center.abs() < margin
    return torch.where(near, torch.where(center < 0, -margin, margin), center)


@torch.no_grad()
def sum_and_count(encoder: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], center_from: str) -> Tensor:
    """The sum of the selected samples' representations, followed by their number: (d + 1,), float64, on the CPU.

    Args:
        encoder: phi, in the mode in which the representations are to be computed.
        batches: batches ``(x, semi_y)``.
        center_from: see :func:`center_mask`.

    Raises:
        ValueError: if there is no batch.
    """
    total: Tensor | None = None
    for x, semi_y in batches:
        mask = center_mask(semi_y, center_from)
        # Sum on the CPU in float64, which not every accelerator supports.
        kept = encoder(x)[mask].cpu().double()
        part = torch.cat([kept.sum(dim=0), torch.tensor([float(len(kept))], dtype=torch.float64)])
        total = part if total is None else total + part
    if total is None:
        raise ValueError("the center cannot be computed, because the loader yields no batch; give it training samples")
    return total


class HypersphereMethod(TrainedMethod):
    """Base class of methods with a fixed center; the score is the distance to it, equation (4).

    Before the first step, one pass in evaluation mode over the training data of all ranks sets the center to the mean
    of the chosen samples. It is a buffer: a checkpoint restores it, and then it is not computed again.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`.
        center_from: the samples whose mean is the center, see :func:`center_mask`.
        lr: learning rate of each phase.
        epochs: number of epochs of each phase.
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
        """Compute what the loss needs, unless a checkpoint has restored it."""
        self.prepare(self._training_batches, self._over_ranks)

    def prepare(
        self, batches: Callable[[], Iterable[Any]], over_ranks: Callable[[Tensor], Tensor] = lambda total: total
    ) -> None:
        """Set the center, unless a checkpoint has restored it.

        Args:
            batches: returns the training set, in batches as for a training step.
            over_ranks: sums a tensor over all processes.
        """
        if not self.center_is_set:
            self.set_center(batches(), over_ranks)

    def adapted(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The state of another method of this family as a state of this one, which has no unit of distances."""
        return {key: value for key, value in state.items() if key != "eta_unit"}

    def _training_batches(self) -> Iterator[Any]:
        """The batches of an epoch as a training step gets them: on the device, in the precision of the weights."""
        loader: Any = self.trainer.train_dataloader
        if getattr(loader, "persistent_workers", False):
            # Such a loader has a single iterator, prepared for the first epoch; using it here would consume that epoch.
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
        """Set the center to the mean of the chosen samples, with coordinates moved away from 0 (appendix A).

        Args:
            batches: the training set, in batches as for a training step.
            over_ranks: sums a tensor over all processes.

        Raises:
            ValueError: if ``center_from`` selects no sample, or there is no batch.
        """
        training = self.encoder.training
        self.encoder.eval()
        total = over_ranks(sum_and_count(self.encoder, map(self.training_part, batches), self.center_from))
        self.encoder.train(training)
        if total[-1] == 0:
            raise ValueError(
                f"center_from is {self.center_from!r}, but there is no training sample of that kind; choose another one"
            )
        self.center.copy_(away_from_zero(total[:-1] / total[-1]))
        self.center_is_set.fill_(True)

    def distance2(self, x: Tensor) -> Tensor:
        """The squared distances to the center, shape (B,)."""
        return squared_distance(self.encoder(x), self.center)

    def score(self, x: Tensor) -> Tensor:
        """The distance to the center, equation (4), shape (B,)."""
        return self.distance2(x).sqrt()
