"""A deep method from scratch: deviation networks (Pang, Shen and van den Hengel, KDD 2019)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deepsad_pl.common.ranges import Positive
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.networks.description import build_encoder, representation_width


class DeviationModule(TrainedMethod):
    """Pulls scores to 0, the mean of a standard normal prior, and those of known anomalies above a margin.

    Args:
        network: phi as a plain mapping.
        margin: least score of known anomalies, in standard deviations of the prior, > 0.
        **schedule: lr, epochs and weight_decay.
    """

    def __init__(self, network: Mapping[str, Any], *, margin: Positive = 5.0, **schedule: Sequence[float]) -> None:
        super().__init__(**schedule)
        self.save_hyperparameters()
        self.margin = margin
        self.encoder = build_encoder(network)
        self.head = nn.Linear(representation_width(network, self.encoder), 1)

    def score(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x)).squeeze(1)

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        score = self.score(x)
        return torch.where(semi_y == -1, (self.margin - score).clamp(min=0), score.abs())
