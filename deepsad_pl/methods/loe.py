"""Latent outlier exposure (Qiu et al., ICML 2022): one-class learning that expects a share of hidden anomalies."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from deepsad_pl.common.ranges import Length, NonNegative, Positive, Share, require
from deepsad_pl.methods.hypersphere import HypersphereMethod

# Weight of the anomalous loss of a sample that is inferred to be an anomaly.
_WEIGHTS = {"hard": 1.0, "soft": 0.5}
# Added to the squared distance before it is inverted, as for Deep SAD.
_EPS = 1e-6


def farthest(distance2: Tensor, share: float) -> Tensor:
    """Select the floor(share * B) samples of the global batch that are farthest from the center; a bool mask, (B,).

    Args:
        distance2: squared distances of this rank's part of the batch, shape (B,).
        share: in [0, 1).
    """
    first, every = 0, distance2.detach()
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        parts: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(parts, every.cpu())
        first = sum(map(len, parts[: dist.get_rank()]))
        every = torch.cat(parts).to(distance2.device)
    count = int(share * len(every))
    chosen = torch.zeros_like(every).scatter(0, every.topk(count).indices, 1.0)
    return chosen[first : first + len(distance2)] > 0


class LOEModule(HypersphereMethod):
    r"""Deep SVDD with latent outlier exposure: the farthest samples of a batch are pushed away from the center.

    .. math::

        \min_{\mathcal W} \frac{1}{B} \sum_i (1 - w_i) \|\phi(x_i) - c\|^2 + w_i \frac{1}{\|\phi(x_i) - c\|^2}

    with w = 1 (``hard``) or .5 (``soft``) for the share of the batch that is expected to be anomalies, those with the
    largest difference between the two losses, and w = 0 for all other samples. Labels are not used. The score is the
    distance to the center. See ``docs/methods/loe.md`` for the source, the training and the results.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`.
        assignment: ``hard`` or ``soft``.
        expected_share: expected share of anomalies in the training data; None: ``polluted_share``.
        polluted_share: share of anomalies according to the scenario's gamma_p.
        warmup: number of first epochs in which all samples count as normal.
        lr: learning rate of each phase.
        epochs: number of epochs of each phase.
        weight_decay: lambda.
    """

    uses_semi_labels = False
    graph = "terms_given"

    def __init__(
        self,
        network: Mapping[str, Any],
        *,
        assignment: Literal["hard", "soft"] = "hard",
        expected_share: Share | None = None,
        polluted_share: NonNegative = 0.0,
        warmup: Length = 2,
        lr: Sequence[Positive] = (1e-4, 1e-5),
        epochs: Sequence[Length] = (50, 100),
        weight_decay: NonNegative = 1e-6,
    ) -> None:
        super().__init__(network, center_from="all", lr=lr, epochs=epochs, weight_decay=weight_decay)
        require(LOEModule.__init__, assignment=assignment, expected_share=expected_share, warmup=warmup)
        self.save_hyperparameters()
        self.assignment, self.warmup = assignment, warmup
        self.expected_share = float(polluted_share if expected_share is None else expected_share)
        self._epoch = 0

    def start_noise(self, epoch: int, rank: int = 0) -> None:
        """Note the epoch, on which the loss depends.

        Args:
            epoch: number of the epoch, counted from 0.
            rank: rank of this process.
        """
        self._epoch = epoch

    def draw(self, size: int) -> tuple[Tensor, ...]:
        """The weight of the anomalous loss of inferred anomalies in this epoch, repeated for each sample, (B,)."""
        weight = _WEIGHTS[self.assignment] if self._epoch >= self.warmup else 0.0
        return (torch.full((size,), weight, device=self.device),)

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        """The loss of each sample in this epoch, whatever the labels, shape (B,)."""
        return self.terms_given(x, semi_y, *self.draw(len(x)))

    def terms_given(self, x: Tensor, semi_y: Tensor, weight: Tensor) -> Tensor:
        """The loss of each sample, shape (B,), for the weight that :meth:`draw` returned."""
        distance2 = self.distance2(x)
        mixed = (1 - weight) * distance2 + weight / (distance2 + _EPS)
        return torch.where(farthest(distance2, self.expected_share), mixed, distance2)
