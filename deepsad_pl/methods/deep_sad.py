"""Deep SAD (section 3.3): a center that normal data gather around and known anomalies are pushed away from."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from deepsad_pl.common.ranges import Length, NonNegative, Positive, require
from deepsad_pl.methods.hypersphere import HypersphereMethod
from deepsad_pl.methods.losses import deep_sad_terms


class DeepSADModule(HypersphereMethod):
    r"""Deep SAD, equation (9): one-class Deep SVDD with a term for what is labeled.

    .. math::

        \min_{\mathcal W} \frac{1}{n+m} \sum_{i=1}^n \|\phi(x_i; \mathcal W) - c\|^2
        + \frac{\eta}{n+m} \sum_{j=1}^m \left(\|\phi(\tilde x_j; \mathcal W) - c\|^2\right)^{\tilde y_j}
        + \frac{\lambda}{2} \sum_\ell \|W^\ell\|_F^2

    Unlabeled samples (most of them normal) and known normal ones (:math:`\tilde y = +1`) are drawn to the center c, so
    that the latent distribution of normal data has low entropy. For known anomalies (:math:`\tilde y = -1`) the inverse
    of the squared distance is penalized: they are pushed away, without being asked to lie together anywhere, since
    nothing says that anomalies resemble each other. The score is the distance to the center, equation (4).

    Source: L. Ruff, R. A. Vandermeulen, N. Goernitz, A. Binder, E. Mueller, K.-R. Mueller, M. Kloft: Deep
    semi-supervised anomaly detection, ICLR 2020.

    How it is trained (appendix A). phi starts from the encoder of an autoencoder that was trained before
    (``pretrain=autoencoder``; what it sees: ``pretrain.data=all``, or ``unlabeled`` to leave labeled anomalies out).
    Then the center is fixed, see :class:`~deepsad_pl.methods.hypersphere.HypersphereMethod`: coordinates nearer to 0
    than .1 are moved to +-.1. phi has no bias term and no bounded activation, and the center is no variable of the
    optimization: each of these would allow the trivial solution phi = c.

    Departures of the authors' code from the paper which are not followed: there the pre-trained weights are never
    copied, labeled anomalies are a part of the center, eps is added for labeled normals too.

    Knobs:
        ``eta`` below 1 stresses the unlabeled, above 1 the labeled term; the paper finds AUROC flat over .01 ... 100
        (figure 5). ``center_from`` may take labeled anomalies into the center (``all``) or labeled normals only, which
        the paper suggests where the unlabeled data are polluted. ``lr``, ``epochs``: too long a training at a high rate
        collapses the representation where few anomalies are labeled; a warning tells.

    Without labeled samples it is one-class Deep SVDD step for step.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`.
        eta: weight of the labeled terms, > 0.
        center_from: which samples the center is the mean of, see
            :func:`~deepsad_pl.methods.hypersphere.center_mask`.
        eps: in the denominator of the inverse (footnote 1).
        lr: learning rate of each phase.
        epochs: length of each phase.
        weight_decay: lambda.
    """

    def __init__(
        self,
        network: Mapping[str, Any],
        *,
        eta: Positive = 1.0,
        center_from: Literal["unlabeled_and_normal", "all", "labeled_normal"] = "unlabeled_and_normal",
        eps: float = 1e-6,
        lr: Sequence[Positive] = (1e-4, 1e-5),
        epochs: Sequence[Length] = (50, 100),
        weight_decay: NonNegative = 1e-6,
    ) -> None:
        super().__init__(network, center_from=center_from, lr=lr, epochs=epochs, weight_decay=weight_decay)
        require(DeepSADModule.__init__, eta=eta)
        self.save_hyperparameters()
        self.eta, self.eps = eta, eps

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        """The summands of equation (9), shape (B,)."""
        return deep_sad_terms(self.distance2(x), semi_y, self.eta, self.eps)
