"""The (convolutional) autoencoder (appendix C), used as a method and to pre-train other methods."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from deepsad_pl.common.ranges import Length, NonNegative, Positive, require
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.losses import cross_entropy, squared_error
from deepsad_pl.networks.description import build_decoder, build_encoder


class AutoencoderModule(TrainedMethod):
    r"""An autoencoder; the score is the mean squared reconstruction error.

    .. math::

        \min_{\mathcal W} \frac{1}{n} \sum_{i=1}^n \frac{1}{D} \|g(\phi(x_i)) - x_i\|^2
        + \frac{\lambda}{2} \sum_\ell \|W^\ell\|_F^2

    phi compresses a sample to d numbers, from which the decoder g reconstructs it. Samples that resemble the training
    data are reconstructed well, others are not, so the squared error is the anomaly score, whatever the training loss.

    Source: the "(convolutional) autoencoder" of appendix C of the Deep SAD paper, column CAE of its tables. Appendix A
    describes its use to pre-train phi. The hybrid methods use its bottleneck as features.

    The decoder mirrors phi: max-pooling becomes upsampling, convolutions become transposed convolutions, and dense
    layers are reversed, with batch norm and leaky ReLU between them and without bias terms. The output passes a sigmoid
    if the data lie in [0, 1], and is linear for z-scored tables.

    Training data. As a method it is unsupervised and is trained without labeled anomalies, unless
    ``method.sees_labeled_anomalies=true``. As pre-training it is trained for Deep SAD and the hybrid SSAD on all rows
    (``pretrain.data=unlabeled`` leaves labeled anomalies out), and for unsupervised methods on all rows but the labeled
    anomalies. Labels are never used.

    The same training serves the method ``autoencoder`` and the pre-training of other methods. It runs once: a finished
    autoencoder is kept under ``<output_dir>/cache`` and reused by every experiment that needs the same one
    (``pretrain.cache=false`` trains it again and keeps nothing).

    Knobs:
        ``loss``: ``mse``, or ``cross_entropy`` between pixels and their reconstruction, the other loss that appendix A
        mentions. ``lr``, ``epochs``, ``batch_size``, ``weight_decay``: under ``method.`` if it is the method, under
        ``pretrain.`` if it pre-trains another.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`; the decoder
            mirrors it.
        sigmoid: whether the data lie in [0, 1], so that the output passes a sigmoid.
        loss: ``mse``, or ``cross_entropy`` (needs ``sigmoid``).
        lr: learning rate of each phase.
        epochs: number of epochs of each phase.
        weight_decay: lambda.
    """

    uses_semi_labels = False

    def __init__(
        self,
        network: Mapping[str, Any],
        *,
        sigmoid: bool,
        loss: Literal["mse", "cross_entropy"] = "mse",
        lr: Sequence[Positive] = (1e-4, 1e-5),
        epochs: Sequence[Length] = (50, 100),
        weight_decay: NonNegative = 1e-6,
    ) -> None:
        super().__init__(lr=lr, epochs=epochs, weight_decay=weight_decay)
        require(AutoencoderModule.__init__, loss=loss)
        if loss == "cross_entropy" and not sigmoid:
            raise ValueError("loss is 'cross_entropy', but the data do not lie in [0, 1]; use 'mse'")
        self.save_hyperparameters()
        self.loss = loss
        self.sigmoid = sigmoid
        self.encoder = build_encoder(network)
        self.decoder = build_decoder(network)

    def logits(self, x: Tensor) -> Tensor:
        """The reconstruction before the sigmoid, in the shape of x."""
        return self.decoder(self.encoder(x))  # type: ignore[no-any-return]

    def reconstruct(self, x: Tensor) -> Tensor:
        """The reconstruction, in the shape of x."""
        logits = self.logits(x)
        return logits.sigmoid() if self.sigmoid else logits

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        """The reconstruction loss of each sample, whatever its label, shape (B,)."""
        if self.loss == "cross_entropy":
            return cross_entropy(self.logits(x), x)
        return squared_error(self.reconstruct(x), x)

    def score(self, x: Tensor) -> Tensor:
        """The mean squared reconstruction error, shape (B,)."""
        return squared_error(self.reconstruct(x), x)
