"""The hypersphere classifier (HSC): a classifier whose "normal" class is a ball around the origin."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from deepsad_pl.common.ranges import Length, NonNegative, Positive, Share, require
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.losses import at_least_float32, classifier_terms
from deepsad_pl.networks.description import build_encoder, representation_width
from deepsad_pl.networks.glorot import glorot

# Added to the distance of an anomaly, so that the loss is finite for one that is mapped exactly to the origin.
EPS = 1e-9
# Smallest error probability in the factor of the focal loss: its gradient would be infinite at 0 if gamma is below 1.
LEAST_ERROR = 1e-7


def pseudo_huber(z: Tensor) -> Tensor:
    r"""The robust distance of representations to the origin, :math:`h(z) = \sqrt{\|z\|^2 + 1} - 1`.

    Near the origin it is half the squared distance, far away the distance minus 1. It is computed as
    :math:`\|z\|^2 / (\sqrt{\|z\|^2 + 1} + 1)`, which loses no digits near the origin.

    Args:
        z: representations, shape (B, d).

    Returns:
        Shape (B,), >= 0, in float32 or float64.

    >>> pseudo_huber(torch.tensor([[0.0, 0.0], [2.0, -2.0], [1e-6, 0.0]], dtype=torch.float64)).tolist()
    [0.0, 2.0, 4.99999999999875e-13]
    """
    norm2 = at_least_float32(z).square().sum(dim=-1)
    return norm2 / ((norm2 + 1).sqrt() + 1)


def log1mexp(h: Tensor) -> Tensor:
    r"""The logarithm :math:`\log(1 - e^{-h})` without loss of digits for small or large h.

    Args:
        h: any shape, > 0.

    Returns:
        Of the same shape, < 0.
    """
    # In each branch, h is limited to the range of that branch: torch.where multiplies the gradient of the other
    # one by 0, and an infinite gradient would become NaN.
    near, far = h.clamp(max=math.log(2)), h.clamp(min=math.log(2))
    return torch.where(h < math.log(2), (-torch.expm1(-near)).log(), torch.log1p(-torch.exp(-far)))


def hsc_terms(h: Tensor, semi_y: Tensor) -> Tensor:
    r"""The summands of the objective of the hypersphere classifier, without weight decay.

    .. math::

        h \;\text{(unlabeled or known normal)}, \qquad -\log(1 - e^{-h}) \;\text{(known anomaly)}

    It is the cross-entropy of a classifier for which :math:`e^{-h}` is the probability of "normal".

    Args:
        h: distances to the center, shape (B,), >= 0.
        semi_y: semi-labels, shape (B,): 0 unlabeled, +1 known normal, -1 known anomaly.

    Returns:
        Shape (B,), >= 0.
    """
    return torch.where(semi_y == -1, -log1mexp(h + EPS), h)


def focal_terms(logits: Tensor, semi_y: Tensor, gamma: float | Tensor) -> Tensor:
    r"""The focal loss: cross-entropy that counts samples less the better they are classified.

    .. math::

        -(1 - p)^\gamma \log p

    with p the probability of the right class, which for all but known anomalies is "normal".

    Args:
        logits: logits of the class "anomaly", shape (B,).
        semi_y: semi-labels, shape (B,): 0 unlabeled, +1 known normal, -1 known anomaly.
        gamma: >= 0; 0 is plain cross-entropy.

    Returns:
        Shape (B,), >= 0.
    """
    entropy = classifier_terms(logits, semi_y)
    error = (-torch.expm1(-entropy)).clamp(min=LEAST_ERROR)
    return error.pow(gamma) * entropy


class HSCModule(TrainedMethod):
    r"""The hypersphere classifier: cross-entropy in which the probability of "normal" falls with the distance to 0.

    .. math::

        \min_{\mathcal W} \frac{1}{n+m} \sum_i w_i \left[ (1 - t_i) \, h(\phi(x_i; \mathcal W)) - t_i \log \left(1 -
        e^{-h(\phi(x_i; \mathcal W))} \right) \right] + \frac{\lambda}{2} \sum_\ell \|W^\ell\|_F^2, \qquad h(z) =
        \sqrt{\|z\|^2 + 1} - 1

    with t = 1 for labeled anomalies and t = 0 for labeled normals and for unlabeled samples. Like Deep SAD it pulls
    normal samples to a center and pushes known anomalies away from it, but it is a classifier, of which :math:`1 -
    e^{-h}` is the probability of "anomaly". The score is h.

    With ``loss=bce`` the network ends in a linear unit, and the loss is binary cross-entropy; with ``loss=focal`` it
    is the focal loss :math:`-(1 - p)^\gamma \log p`. Then the score is the logit of "anomaly". These are the
    supervised counterparts that the authors compare with. ``loss=bce balance=false`` is ``method=classifier``.

    Source: L. Ruff, R. A. Vandermeulen, B. J. Franks, K.-R. Mueller, M. Kloft: Rethinking assumptions in deep anomaly
    detection, arXiv 2006.00339, 2020, and the authors' code, Classification-AD.

    How it is trained. The center is the origin, so there is none to compute, and by default nothing is pre-trained.
    Without any known anomaly phi = 0 would be the best solution, so at least one is needed, be it labeled or of a
    second data set (``scenario.exposure``).

    Balance. In the authors' code, half of each batch is normal and half anomalous, however few anomalies there are;
    these are drawn again and again. With ``balance=true`` the weights w give both kinds the same total weight, which is
    the same in expectation: with s the share of known anomalies in the training data, w = 1 / (2 s) for these and 1 /
    (2 (1 - s)) for all other samples. With ``balance=false`` all weights are 1.

    Differences from the authors' code. There phi has bias terms; here it is the network of all deep methods, without
    any, so that methods are comparable. There 1e-9 is added to the probability, here to the distance, so that the
    logarithm can be computed without loss of digits.

    Knobs:
        ``loss``: ``hsc``, ``bce`` or ``focal``. ``focal_gamma``: 2, as the authors have it. ``balance``. ``lr``,
        ``epochs``, ``batch_size``, ``weight_decay``.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`.
        loss: ``hsc``, ``bce`` or ``focal``.
        focal_gamma: exponent of the focal loss, >= 0.
        balance: whether known anomalies and all other samples have the same total weight.
        anomaly_share: share of known anomalies in the training data, in (0, 1), for ``balance``; the default is right
            for batches of which half are anomalies.
        lr: learning rate of each phase.
        epochs: number of epochs of each phase.
        weight_decay: lambda.
    """

    def __init__(
        self,
        network: Mapping[str, Any],
        *,
        loss: Literal["hsc", "bce", "focal"] = "hsc",
        focal_gamma: NonNegative = 2.0,
        balance: bool = True,
        anomaly_share: Share = 0.5,
        lr: Sequence[Positive] = (1e-4, 1e-5),
        epochs: Sequence[Length] = (50, 100),
        weight_decay: NonNegative = 1e-6,
    ) -> None:
        super().__init__(lr=lr, epochs=epochs, weight_decay=weight_decay)
        require(HSCModule.__init__, loss=loss, focal_gamma=focal_gamma, anomaly_share=anomaly_share)
        self.save_hyperparameters()
        self.loss, self.focal_gamma = loss, float(focal_gamma)
        self.anomaly_weight = 0.5 / anomaly_share if balance else 1.0
        self.normal_weight = 0.5 / (1 - anomaly_share) if balance else 1.0
        self.encoder = build_encoder(network)
        self.head = None if loss == "hsc" else glorot(nn.Linear(representation_width(network, self.encoder), 1))

    def output(self, x: Tensor) -> Tensor:
        """The distance h to the origin, or the logit of "anomaly" for ``bce`` and ``focal``, shape (B,)."""
        z = self.encoder(x)
        return pseudo_huber(z) if self.head is None else at_least_float32(self.head(z).squeeze(1))

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        """The weighted loss of each sample, shape (B,)."""
        output = self.output(x)
        if self.loss == "hsc":
            terms = hsc_terms(output, semi_y)
        elif self.loss == "focal":
            terms = focal_terms(output, semi_y, self.focal_gamma)
        else:
            terms = classifier_terms(output, semi_y)
        return torch.where(semi_y == -1, self.anomaly_weight * terms, self.normal_weight * terms)

    def score(self, x: Tensor) -> Tensor:
        """The distance to the origin or the logit, shape (B,)."""
        return self.output(x)
