"""Feature encoding with autoencoders (Zhou et al., TNNLS 2021): scores from what an autoencoder makes of a sample."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepsad_pl.common.ranges import Length, NonNegative, Positive, Widths, require
from deepsad_pl.methods.autoencoder import AutoencoderModule
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.devnet import deviation_terms
from deepsad_pl.methods.losses import at_least_float32
from deepsad_pl.networks.description import build_decoder, build_encoder, representation_width
from deepsad_pl.networks.generative import input_width
from deepsad_pl.networks.glorot import glorot

# Added to the squared error before its root is taken, whose gradient is infinite at 0.
_EPS = 1e-12


class FeaWADModule(TrainedMethod):
    r"""FeaWAD: an autoencoder, and a network that scores its code, its error and the direction of its error.

    .. math::

        \min \frac{1}{B} \sum_i (1 - t_i) (|s(x_i)| + e(x_i)) + t_i (\max\{0, a - s(x_i)\} + \max\{0, a - e(x_i)\}),
        \qquad s(x) = f\left(\frac{x - g(\phi(x))}{e(x)}, \phi(x), e(x)\right), \quad e(x) = \|x - g(\phi(x))\|

    with t = 1 for known anomalies and t = 0 for all other samples. The score is s(x). See ``docs/methods/feawad.md``
    for the source, the training and the results.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`; the decoder g
            mirrors it.
        sigmoid: whether the data lie in [0, 1], so that the decoder's output passes a sigmoid.
        margin: a, the least score and the least error of known anomalies.
        units: widths of the hidden layers of f.
        lr: learning rate of each phase.
        epochs: number of epochs of each phase.
        weight_decay: lambda.
    """

    sampling = "balanced"

    def __init__(
        self,
        network: Mapping[str, Any],
        *,
        sigmoid: bool,
        margin: Positive = 5.0,
        units: Widths = (256, 32),
        lr: Sequence[Positive] = (1e-4, 1e-5),
        epochs: Sequence[Length] = (50, 100),
        weight_decay: NonNegative = 1e-6,
    ) -> None:
        super().__init__(lr=lr, epochs=epochs, weight_decay=weight_decay)
        require(FeaWADModule.__init__, margin=margin, units=units)
        self.save_hyperparameters()
        self.sigmoid, self.margin = sigmoid, float(margin)
        self.encoder = build_encoder(network)
        self.decoder = build_decoder(network)
        widths = [input_width(network) + representation_width(network, self.encoder), *units]
        # Every layer sees the error as well.
        layers = [nn.Linear(before + 1, after) for before, after in zip(widths, [*units, 1], strict=True)]
        self.scorer = nn.ModuleList(map(glorot, layers))

    def start_from(self, pretrained: TrainedMethod) -> None:
        """Copy every tensor of a pre-trained autoencoder.

        Args:
            pretrained: a trained autoencoder of the same network.
        """
        super().start_from(pretrained)
        assert isinstance(pretrained, AutoencoderModule)
        self.decoder.load_state_dict(pretrained.decoder.state_dict(), strict=True)

    def score_and_error(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The score s and the reconstruction error e of each sample, shape (B,) each."""
        code = self.encoder(x)
        decoded = self.decoder(code)
        residual = at_least_float32(x - (decoded.sigmoid() if self.sigmoid else decoded)).flatten(1)
        error = (residual.square().sum(dim=1, keepdim=True) + _EPS).sqrt()
        found = torch.cat([residual / error, at_least_float32(code)], dim=1)
        for number, layer in enumerate(self.scorer, 1):
            found = layer(torch.cat([found, error], dim=1))
            found = F.relu(found) if number < len(self.scorer) else found
        return at_least_float32(found).squeeze(1), error.squeeze(1)

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        """The deviation losses of score and error, shape (B,)."""
        score, error = self.score_and_error(x)
        return deviation_terms(score, semi_y, self.margin) + deviation_terms(error, semi_y, self.margin)

    def score(self, x: Tensor) -> Tensor:
        """The learned score s(x), shape (B,)."""
        return self.score_and_error(x)[0]
