"""RoSAS (Xu et al., IPM 2023): continuous labels from mixtures of samples, and triplets of representations."""

from collections.abc import Mapping, Sequence
from math import pi
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.ranges import Length, NonNegative, Positive, require
from deepsad_pl.methods.losses import at_least_float32
from deepsad_pl.methods.noise import NoisyMethod
from deepsad_pl.networks.description import build_encoder, representation_width
from deepsad_pl.networks.glorot import glorot

_SLOPE = 0.01
# Added to squared distances before the root is taken, whose gradient is infinite at 0.
_EPS = 1e-12


def triplet_terms(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float | Tensor) -> Tensor:
    """The triplet loss: how much the distance to the negative falls short of that to the positive plus the margin.

    Args:
        anchor: representations, shape (B, d).
        positive: representations that should be near, shape (B, d).
        negative: representations that should be far, shape (B, d).
        margin: > 0.

    Returns:
        Shape (B,), >= 0.
    """
    near, far = ((anchor - other).square().sum(dim=1).add(_EPS).sqrt() for other in (positive, negative))
    return (near - far + margin).clamp(min=0)


class RoSASModule(NoisyMethod):
    r"""RoSAS: a triplet loss on representations, and a regression of scores on mixtures of samples.

    .. math::

        \min \frac{1}{B} \sum_i \tfrac12 \max\{0, \|z_i - z_i^+\| - \|z_i - z_i^-\| + m\} + \tfrac12 \cdot \tfrac13
        \sum_{j} \left[ h(s(\tilde x_j) - \tilde y_j) + h(s(\tilde x_j) - \tilde s_j) \right]

    for triplets of two samples that are no known anomalies and a known anomaly, with representations z, scores s in
    (-1, 1) and targets -1, -1 and 1. Each sample of the batch is mixed with another one:
    :math:`\tilde x = \lambda x + (1 - \lambda) x'`, and likewise its target :math:`\tilde y` and its score
    :math:`\tilde s`, with :math:`\lambda` drawn from Beta(1/2, 1/2); h is the smooth L1 loss. The score is s. See
    ``docs/methods/rosas.md`` for the source, the training and the results.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`.
        margin: m.
        seed: seed of the mixtures, >= 0.
        lr: learning rate of each phase.
        epochs: number of epochs of each phase.
        weight_decay: lambda.
    """

    sampling = "triplets"

    def __init__(
        self,
        network: Mapping[str, Any],
        *,
        margin: Positive = 5.0,
        seed: int = 0,
        lr: Sequence[Positive] = (1e-4, 1e-5),
        epochs: Sequence[Length] = (50, 100),
        weight_decay: NonNegative = 1e-6,
    ) -> None:
        super().__init__(seed=seed, lr=lr, epochs=epochs, weight_decay=weight_decay)
        require(RoSASModule.__init__, margin=margin)
        self.save_hyperparameters()
        self.margin = float(margin)
        self.encoder = build_encoder(network)
        width = representation_width(network, self.encoder)
        self.hidden = glorot(nn.Linear(width, max(width // 2, 1), bias=False))
        self.head = glorot(nn.Linear(max(width // 2, 1), 1))

    def draw(self, size: int) -> tuple[Tensor, ...]:
        """With which sample of the batch each sample is mixed, and its own share: (B, 3) each, for B triplets."""
        other = torch.randperm(3 * size, generator=self.stream(), device=self.device)
        uniform = torch.rand(3 * size, generator=self.stream(), device=self.device)
        # The quantile function of Beta(1/2, 1/2), the arcsine distribution.
        return other.view(size, 3), (uniform * pi / 2).sin().square().view(size, 3)

    def terms_given(self, x: Tensor, semi_y: Tensor, *noise: Tensor) -> Tensor:
        """The loss of each triplet, shape (B,).

        Args:
            x: triplets of two samples that are no known anomalies and a known anomaly, shape (B, 3, ...).
            semi_y: not used.
            *noise: what :meth:`draw` returned.

        Raises:
            DeepSADError: if the samples are no triplets.
        """
        if x.dim() < 3 or x.shape[1] != 3:
            raise DeepSADError(
                f"RoSAS learns from triplets, shape (B, 3, ...), but a batch has shape {tuple(x.shape)}; use "
                'AnomalyDataModule(..., sampling="triplets")'
            )
        other, share = noise[0].flatten(), noise[1].flatten().to(x.dtype)
        flat = x.flatten(0, 1)
        # Not copied from a list, for which a GPU would be waited for.
        target = torch.cat([flat.new_full((len(x), 2), -1.0), flat.new_ones(len(x), 1)], dim=1).flatten()
        z = self.represent(flat)
        score = self._score_of(z)
        weight = share.view(-1, *[1] * (flat.dim() - 1))
        mixed = self._score_of(self.represent(weight * flat + (1 - weight) * flat[other]))
        mixed_target, mixed_score = (share * of + (1 - share) * of[other] for of in (target, score))
        found = F.smooth_l1_loss(mixed, mixed_target, reduction="none")
        found = found + F.smooth_l1_loss(mixed, mixed_score, reduction="none")
        anchor, positive, negative = z.view(len(x), 3, -1).unbind(dim=1)
        return (triplet_terms(anchor, positive, negative, self.margin) + found.view(-1, 3).mean(dim=1)) / 2

    def _score_of(self, z: Tensor) -> Tensor:
        return at_least_float32(self.head(F.leaky_relu(self.hidden(z), _SLOPE)).squeeze(1)).tanh()

    def score(self, x: Tensor) -> Tensor:
        """The learned score, in (-1, 1), shape (B,)."""
        return self._score_of(self.represent(x))
