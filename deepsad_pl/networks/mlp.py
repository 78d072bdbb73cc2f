"""The MLPs of appendix B for tables and their mirrored decoders. No bias term anywhere."""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from deepsad_pl.common.ranges import Slope, Widths
from deepsad_pl.networks.batch_norm import BatchNorm
from deepsad_pl.networks.glorot import initialize
from deepsad_pl.networks.usual import LEAKINESS


class MLP(nn.Module):
    """Dense layers with batch norm and leaky ReLU between them; the last one is linear.

    Args:
        in_features: D, the number of columns of the table.
        units: units of each layer; the last layer is the representation, of width d.
        leakiness: slope of the leaky ReLUs for negative inputs.
        initial_weights: see :func:`~deepsad_pl.networks.glorot.initialize`.
    """

    def __init__(
        self,
        in_features: int,
        units: Widths,
        leakiness: Slope = LEAKINESS,
        initial_weights: Literal["glorot", "torch"] = "glorot",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise([in_features, *units])):
            layers.append(nn.Linear(before, after, bias=False))
            if i < len(units) - 1:
                layers += [BatchNorm(after), nn.LeakyReLU(leakiness)]
        self.layers = nn.Sequential(*layers)
        initialize(self, initial_weights)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, d)."""
        return self.layers(x)  # type: ignore[no-any-return]


def mirrored_mlp(
    in_features: int,
    units: Widths,
    leakiness: Slope = LEAKINESS,
    initial_weights: Literal["glorot", "torch"] = "glorot",
) -> MLP:
    """The decoder of an :class:`MLP` with these arguments: (B, d) -> (B, D)."""
    return MLP(units[-1], [*reversed(units[:-1]), in_features], leakiness, initial_weights)
