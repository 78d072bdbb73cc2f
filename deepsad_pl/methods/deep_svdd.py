"""Unsupervised Deep SVDD (section 3.1), one-class and soft-boundary: the data inside a small hypersphere."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from deepsad_pl.common.ranges import Length, NonNegative, Positive, Share, require
from deepsad_pl.methods.hypersphere import HypersphereMethod
from deepsad_pl.methods.losses import soft_boundary_terms


class DeepSVDDModule(HypersphereMethod):
    r"""One-class Deep SVDD, equation (3): the mean squared distance to a fixed center is minimized.

    .. math::

        \min_{\mathcal W} \frac{1}{n} \sum_{i=1}^n \|\phi(x_i; \mathcal W) - c\|^2
        + \frac{\lambda}{2} \sum_\ell \|W^\ell\|_F^2

    The network must extract the factors that the training data have in common to map them all near one point; what does
    not share them is mapped further away. It is Deep SAD with nothing labeled (m = 0), and the two agree step for step.
    The score is the distance to the center, equation (4).

    Source: L. Ruff, R. A. Vandermeulen, N. Goernitz, L. Deecke, S. A. Siddiqui, A. Binder, E. Mueller, M. Kloft: Deep
    one-class classification, ICML 2018; as a competitor in appendix C of the Deep SAD paper, whose column "Deep SVDD"
    is the better of this and :class:`SoftBoundarySVDDModule`.

    How it is trained. phi starts from the encoder of an autoencoder, the center is the mean of the representations of
    the training data before the first step, with coordinates near 0 moved to +-.1; phi has no bias term. All as for
    Deep SAD, so that the two differ in nothing but the labels.

    What it sees. Being unsupervised it does not see labeled anomalies, and neither does its autoencoder: that is what
    the paper's tables imply, whose unsupervised columns do not change with gamma_l (the authors' code shows them).
    Labeled normals are data like any other. ``method.sees_labeled_anomalies=true`` mixes labeled anomalies into the
    training data, as if they were normal.

    Knobs:
        ``lr``, ``epochs``, ``batch_size``, ``weight_decay``, and those of ``pretrain``. There is no other; long
        training at a high rate ends in a collapse (all samples at one point), of which a warning tells.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`.
        lr: learning rate of each phase.
        epochs: length of each phase.
        weight_decay: lambda.
    """

    uses_semi_labels = False

    def __init__(
        self,
        network: Mapping[str, Any],
        *,
        lr: Sequence[Positive] = (1e-4, 1e-5),
        epochs: Sequence[Length] = (50, 100),
        weight_decay: NonNegative = 1e-6,
    ) -> None:
        super().__init__(network, center_from="all", lr=lr, epochs=epochs, weight_decay=weight_decay)
        self.save_hyperparameters()

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        """The squared distances to the center, whatever the labels, shape (B,)."""
        return self.distance2(x)


class SoftBoundarySVDDModule(HypersphereMethod):
    r"""Soft-boundary Deep SVDD: a hypersphere of radius R, of which a share nu of the data may lie outside.

    .. math::

        \min_{R, \mathcal W} R^2 + \frac{1}{\nu n} \sum_{i=1}^n \max\{0, \|\phi(x_i; \mathcal W) - c\|^2 - R^2\}
        + \frac{\lambda}{2} \sum_\ell \|W^\ell\|_F^2

    Only samples outside the sphere have a gradient. For fixed weights the best R is the (1 - nu)-quantile of the
    distances, and it is solved for on every mini-batch (appendix C), before the step on the weights, for which it is a
    constant. The quantile is that of the distances and interpolates linearly (another published code takes it of
    squared distances and squares once more). The score is the distance to the center, equation (4): subtracting the
    radius would not change the ranking.

    Source: Ruff et al., Deep one-class classification, ICML 2018, equation (3) there; appendix C of the Deep SAD paper,
    which runs nu = .01 and .1 and reports the best of these and of :class:`DeepSVDDModule`.

    How it is trained and what it sees: as :class:`DeepSVDDModule`. The original code trains ten epochs with R = 0
    before it first solves for R; the paper does not mention it, and here R is solved for from the first step on. Under
    several ranks the quantile is that of the global batch.

    Knobs:
        ``nu``: the share of the training data that is expected outside. Below 1 / batch_size only the farthest sample
        of a batch lies outside, with a weight of 1 / nu.
        ``lr``, ``epochs``, ``batch_size``, ``weight_decay``, and those of ``pretrain``.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`.
        nu: in (0, 1).
        lr: learning rate of each phase.
        epochs: length of each phase.
        weight_decay: lambda.
    """

    uses_semi_labels = False

    def __init__(
        self,
        network: Mapping[str, Any],
        *,
        nu: Share = 0.1,
        lr: Sequence[Positive] = (1e-4, 1e-5),
        epochs: Sequence[Length] = (50, 100),
        weight_decay: NonNegative = 1e-6,
    ) -> None:
        super().__init__(network, center_from="all", lr=lr, epochs=epochs, weight_decay=weight_decay)
        require(SoftBoundarySVDDModule.__init__, nu=nu)
        self.save_hyperparameters()
        self.nu = nu

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        """The summands of the objective with the batch's best radius, whatever the labels, shape (B,)."""
        distance2 = self.distance2(x)
        return soft_boundary_terms(distance2, radius(distance2.detach().sqrt(), self.nu), self.nu)


def radius(distance: Tensor, nu: Share) -> Tensor:
    """The best R for fixed weights: the (1 - nu)-quantile of the global batch's distances, a scalar.

    Args:
        distance: of this rank's part of the batch, shape (B,).
        nu: in (0, 1).
    """
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        parts: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(parts, distance.cpu())
        distance = torch.cat(parts).to(distance.device)
    # Not torch.quantile: before torch 2.12 it cannot be compiled for the CPU.
    ordered = distance.double().sort().values
    # In double precision (1 - nu) (B - 1) is a whole number where it should be one.
    rank = (1 - nu) * (len(ordered) - 1)
    below = math.floor(rank)
    return torch.lerp(ordered[below], ordered[math.ceil(rank)], rank - below).to(distance.dtype)
