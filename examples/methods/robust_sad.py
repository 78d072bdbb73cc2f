"""Deep SAD with a robust distance: samples far from the center, which may be pollution, have less influence."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from deepsad_pl.common.ranges import Positive
from deepsad_pl.methods.deep_sad import DeepSADModule
from deepsad_pl.methods.losses import deep_sad_terms


class RobustSADModule(DeepSADModule):
    """Deep SAD on the pseudo-Huber distance, which grows linearly beyond delta.

    Args:
        network: phi as a plain mapping.
        delta: distance up to which the loss is about quadratic, > 0.
        **arguments: further arguments of :class:`~deepsad_pl.methods.deep_sad.DeepSADModule`.
    """

    def __init__(self, network: Mapping[str, Any], *, delta: Positive = 0.5, **arguments: Any) -> None:
        super().__init__(network, **arguments)
        self.delta = delta

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        """The loss of each sample, shape (B,)."""
        scale = self.delta**2
        huber = 2 * scale * ((1 + self.distance2(x) / scale).sqrt() - 1)
        return deep_sad_terms(huber, semi_y, self.eta, self.eps, self.eta_unit)
