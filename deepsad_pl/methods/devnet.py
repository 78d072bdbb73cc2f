"""Deviation networks (Pang, Shen and van den Hengel, KDD 2019): known anomalies score far above a Gaussian prior."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deepsad_pl.common.ranges import AtLeast2, Length, NonNegative, Positive, require
from deepsad_pl.methods.losses import at_least_float32
from deepsad_pl.methods.noise import NoisyMethod
from deepsad_pl.networks.description import build_encoder, representation_width
from deepsad_pl.networks.glorot import glorot


def deviation_terms(deviation: Tensor, semi_y: Tensor, margin: float | Tensor) -> Tensor:
    """The deviation loss: the absolute value, or for known anomalies what is missing to the margin.

    Args:
        deviation: scores in standard deviations from the mean of the reference scores, shape (B,).
        semi_y: semi-labels, shape (B,): 0 unlabeled, +1 known normal, -1 known anomaly.
        margin: a, > 0.

    Returns:
        Shape (B,), >= 0.
    """
    return torch.where(semi_y == -1, (margin - deviation).clamp(min=0), deviation.abs())


class DevNetModule(NoisyMethod):
    r"""A deviation network: learns scores directly, with a Gaussian prior for those of normal samples.

    .. math::

        \min \frac{1}{B} \sum_i (1 - t_i) |d(x_i)| + t_i \max\{0, a - d(x_i)\}, \qquad
        d(x) = \frac{f(x) - \mu_R}{\sigma_R}, \qquad f(x) = w^\top \phi(x) + b

    with t = 1 for known anomalies and t = 0 for all other samples. The reference scores, of mean :math:`\mu_R` and
    standard deviation :math:`\sigma_R`, are drawn anew from N(0, 1) for every batch. The score is f(x). See
    ``docs/methods/devnet.md`` for the source, the training and the results.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`.
        margin: a, the least deviation of known anomalies.
        references: number of reference scores.
        seed: seed of the reference scores, >= 0.
        lr: learning rate of each phase.
        epochs: number of epochs of each phase.
        weight_decay: lambda.
    """

    sampling = "balanced"

    def __init__(
        self,
        network: Mapping[str, Any],
        *,
        margin: Positive = 5.0,
        references: AtLeast2 = 5000,
        seed: int = 0,
        lr: Sequence[Positive] = (1e-4, 1e-5),
        epochs: Sequence[Length] = (50, 100),
        weight_decay: NonNegative = 1e-6,
    ) -> None:
        super().__init__(seed=seed, lr=lr, epochs=epochs, weight_decay=weight_decay)
        require(DevNetModule.__init__, margin=margin, references=references)
        self.save_hyperparameters()
        self.margin, self.references = float(margin), references
        self.encoder = build_encoder(network)
        self.head = glorot(nn.Linear(representation_width(network, self.encoder), 1))

    def start_noise(self, epoch: int, rank: int = 0) -> None:
        """Start the stream of an epoch's reference scores, which all ranks share."""
        super().start_noise(epoch)

    def draw(self, size: int) -> tuple[Tensor, ...]:
        """Mean and inverse standard deviation of the batch's reference scores, repeated for each sample, (B,) each."""
        scores = self.noise(self.references)
        return scores.mean().expand(size), scores.std(correction=0).reciprocal().expand(size)

    def terms_given(self, x: Tensor, semi_y: Tensor, *noise: Tensor) -> Tensor:
        """The deviation loss of each sample, shape (B,)."""
        mean, precision = noise
        return deviation_terms((self.score(x) - mean) * precision, semi_y, self.margin)

    def score(self, x: Tensor) -> Tensor:
        """The learned score f(x), shape (B,)."""
        return at_least_float32(self.head(self.encoder(x)).squeeze(1))
