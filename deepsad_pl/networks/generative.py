"""The MLPs of deep generative models: softplus units, biases that start at 0, Glorot uniform weights (appendix C)."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from deepsad_pl.networks.glorot import glorot


def input_width(network: Mapping[str, Any]) -> int:
    """D, the number of values in a sample, from the mapping that describes phi."""
    return math.prod(network["in_shape"]) if "in_shape" in network else int(network["in_features"])


class PerClassLinear(nn.Linear):
    """A dense layer applied to [x, onehot(y)] for all classes y at once; x is multiplied by the weights only once.

    Args:
        in_features: D, the width of x alone.
        out_features: number of units.
        classes: K, the number of classes.
    """

    def __init__(self, in_features: int, out_features: int, classes: int) -> None:
        super().__init__(in_features + classes, out_features)
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        """(B, D), or (K, B, D) with an x for each class, -> (K, B, units)."""
        of_x, of_y = self.weight[:, : -self.classes], self.weight[:, -self.classes :]
        return F.linear(x, of_x, self.bias) + of_y.T[:, None]


def _hidden_layers(in_features: int, hidden: Sequence[int], classes: int) -> nn.Sequential:
    if not hidden:
        raise ValueError(
            "hidden is empty, but a generative model needs at least one hidden layer; list the units of each"
        )
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(pairwise([in_features, *hidden])):
        layers.append(PerClassLinear(before, after, classes) if classes and not i else nn.Linear(before, after))
        layers.append(nn.Softplus())
    return nn.Sequential(*layers)


class GaussianEncoder(nn.Module):
    """The inference network: q(z|x), or q(z|x, y) for each class y, as a diagonal Gaussian.

    Args:
        in_features: D, the number of values in a sample.
        hidden: units of the hidden layers, at least one.
        latent: d, the width of z.
        classes: K, or 0 if z does not depend on a class.
    """

    def __init__(self, in_features: int, hidden: Sequence[int], latent: int, classes: int = 0) -> None:
        super().__init__()
        self.hidden = _hidden_layers(in_features, hidden, classes)
        self.mean = nn.Linear(hidden[-1], latent)
        self.log_var = nn.Linear(hidden[-1], latent)
        glorot(self)
        # The variance is exponential in this layer's output: with random weights, a row a hundred standard deviations
        # out would start with a loss above 1e10. With zeros every posterior starts with the variance of the prior.
        nn.init.zeros_(self.log_var.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, ...) -> mean and log variance, each (B, d), or (K, B, d) with classes."""
        h = self.hidden(x.flatten(1))
        return self.mean(h), self.log_var(h)


class Decoder(nn.Module):
    """The generative network: the mean of p(x|z), or of p(x|y, z) for each class y; logits if x is Bernoulli.

    Args:
        latent: d, the width of z.
        hidden: units of the hidden layers, at least one.
        out_features: D, the number of values in a sample.
        classes: K, or 0 if x does not depend on a class.
    """

    def __init__(self, latent: int, hidden: Sequence[int], out_features: int, classes: int = 0) -> None:
        super().__init__()
        self.hidden = _hidden_layers(latent, hidden, classes)
        self.out = nn.Linear(hidden[-1], out_features)
        glorot(self)

    def forward(self, z: Tensor) -> Tensor:
        """(B, d) -> (B, D), or (K, B, d) -> (K, B, D) with classes."""
        return self.out(self.hidden(z))  # type: ignore[no-any-return]
