"""The supervised deep binary classifier (appendix C)."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from deepsad_pl.common.ranges import Length, NonNegative, Positive
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.losses import at_least_float32, classifier_terms
from deepsad_pl.networks.description import build_encoder, representation_width
from deepsad_pl.networks.glorot import glorot


class ClassifierModule(TrainedMethod):
    r"""A binary classifier trained with cross-entropy, for which unlabeled samples count as normal.

    .. math::

        \min_{\mathcal W, w, b} \frac{1}{n+m} \sum_i \left[ -t_i \log \sigma(f(x_i)) - (1 - t_i) \log(1 -
        \sigma(f(x_i))) \right] + \frac{\lambda}{2} \sum_\ell \|W^\ell\|_F^2, \qquad f(x) = w^\top \phi(x; \mathcal W) +
        b

    with t = 1 for labeled anomalies and t = 0 for labeled normals and for unlabeled samples, assuming that most of the
    unlabeled ones are normal. The score is the logit f(x) of the class "anomaly".

    Source: the competitor "supervised deep binary classifier", appendix C of the Deep SAD paper. It is the fully
    supervised end of the learning spectrum. Even with perfect labels it has no reason to detect anomalies of a new
    class, and if unlabeled anomalies pollute the data, it learns to call them normal.

    How it is trained. The network is phi, as for every deep method here, followed by one linear unit with a bias (there
    is no hypersphere that could collapse). Weights are initialized Glorot uniform, the bias with 0. By default nothing
    is pre-trained; ``pretrain=autoencoder`` initializes phi with the encoder. The class imbalance follows from gamma_l;
    as in the paper, the loss is not weighted. At least one labeled anomaly is needed: otherwise every sample counts as
    normal and there is nothing to learn.

    Knobs:
        ``lr``, ``epochs``, ``batch_size``, ``weight_decay``.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`.
        lr: learning rate of each phase.
        epochs: number of epochs of each phase.
        weight_decay: lambda.
    """

    def __init__(
        self,
        network: Mapping[str, Any],
        *,
        lr: Sequence[Positive] = (1e-4, 1e-5),
        epochs: Sequence[Length] = (50, 100),
        weight_decay: NonNegative = 1e-6,
    ) -> None:
        super().__init__(lr=lr, epochs=epochs, weight_decay=weight_decay)
        self.save_hyperparameters()
        self.encoder = build_encoder(network)
        self.head = glorot(nn.Linear(representation_width(network, self.encoder), 1))

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        """The cross-entropy of each sample, shape (B,)."""
        return classifier_terms(self.score(x), semi_y)

    def score(self, x: Tensor) -> Tensor:
        """The logit of the class "anomaly", shape (B,)."""
        return at_least_float32(self.head(self.encoder(x)).squeeze(1))
