"""Pairwise relation prediction (Pang et al., KDD 2023): how many of two samples are anomalies."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.ranges import Length, Members, NonNegative, Positive, require
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.losses import at_least_float32
from deepsad_pl.networks.description import build_encoder, representation_width
from deepsad_pl.networks.generative import input_width
from deepsad_pl.networks.glorot import glorot


def sample_shape(network: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape of a sample, (C, H, W) or (D,), from the mapping that describes phi."""
    return tuple(network["in_shape"]) if "in_shape" in network else (input_width(network),)


class PReNetModule(TrainedMethod):
    r"""PReNet: a regression of pairs on the number of known anomalies in them.

    .. math::

        \min \frac{1}{B} \sum_i |f(x_i, x'_i) - g \, n_i|, \qquad f(x, x') = w^\top [\phi(x), \phi(x')] + b

    with n = 0, 1 or 2 known anomalies in the pair. Training batches are pairs, see
    :class:`~deepsad_pl.data.tuple_loader.PairLoader`. The score is the mean of f(u, x) and f(x, a) over fixed training
    samples u that are no known anomalies and known anomalies a, which are saved with the module. See
    ``docs/methods/prenet.md`` for the source, the training and the results.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`.
        gap: g, the target of a pair with one anomaly; half of that of two.
        partners: number of samples u, and of samples a.
        lr: learning rate of each phase.
        epochs: number of epochs of each phase.
        weight_decay: lambda.

    Attributes:
        others: the samples u; NaN until :meth:`set_partners`.
        anomalies: the samples a; NaN until :meth:`set_partners`.
    """

    sampling = "pairs"
    others: Tensor
    anomalies: Tensor

    def __init__(
        self,
        network: Mapping[str, Any],
        *,
        gap: Positive = 4.0,
        partners: Members = 30,
        lr: Sequence[Positive] = (1e-4, 1e-5),
        epochs: Sequence[Length] = (50, 100),
        weight_decay: NonNegative = 1e-6,
    ) -> None:
        super().__init__(lr=lr, epochs=epochs, weight_decay=weight_decay)
        require(PReNetModule.__init__, gap=gap, partners=partners)
        self.save_hyperparameters()
        self.gap, self.partners = float(gap), partners
        self.encoder = build_encoder(network)
        self.head = glorot(nn.Linear(2 * representation_width(network, self.encoder), 1))
        for name in ("others", "anomalies"):
            self.register_buffer(name, torch.full((partners, *sample_shape(network)), torch.nan))

    @property
    def lacks_partners(self) -> bool:
        """Whether :meth:`set_partners` has not been called, so that scores would be NaN."""
        return bool(self.others.isnan().any())

    def _require_partners(self) -> None:
        if self.lacks_partners:
            raise DeepSADError(
                "PReNet scores a sample by pairs with training samples, which are not set; fit with an "
                "AnomalyDataModule, or call set_partners(others, anomalies)"
            )

    on_validation_start = on_test_start = on_predict_start = _require_partners

    def set_partners(self, others: Tensor, anomalies: Tensor) -> None:
        """Set the samples with which a sample is paired to score it, shape (``partners``, ...) each."""
        self.others.copy_(others)
        self.anomalies.copy_(anomalies)

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        """The absolute error of each pair, shape (B,).

        Args:
            x: pairs, shape (B, 2, ...).
            semi_y: minus the number of known anomalies in each pair, shape (B,).

        Raises:
            DeepSADError: if the samples are no pairs.
        """
        if x.shape[1:] != (2, *self.others.shape[1:]):
            raise DeepSADError(
                f"PReNet learns from pairs, shape (B, 2, ...), but a batch has shape {tuple(x.shape)}; use "
                'AnomalyDataModule(..., sampling="pairs")'
            )
        z = self.represent(x.flatten(0, 1))
        found = at_least_float32(self.head(z.reshape(len(x), -1)).squeeze(1))
        return (found + self.gap * semi_y).abs()

    def score(self, x: Tensor) -> Tensor:
        """The mean prediction for pairs with the partners, shape (B,)."""
        # The head is linear, so the mean over pairs is its value at the mean representation of the partners.
        z = self.represent(x)
        others, anomalies = (self.represent(part).mean(dim=0).expand_as(z) for part in (self.others, self.anomalies))
        pairs = torch.cat([torch.cat([others, z], dim=1), torch.cat([z, anomalies], dim=1)])
        return at_least_float32(self.head(pairs).view(2, -1).mean(dim=0))
