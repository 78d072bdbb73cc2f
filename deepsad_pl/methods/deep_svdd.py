"""Unsupervised Deep SVDD (section 3.1), one-class and soft-boundary: map the data into a small hypersphere."""

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
    r"""One-class Deep SVDD, equation (3): minimize the mean squared distance to a fixed center.

    .. math::

        \min_{\mathcal W} \frac{1}{n} \sum_{i=1}^n \|\phi(x_i; \mathcal W) - c\|^2
        + \frac{\lambda}{2} \sum_\ell \|W^\ell\|_F^2

    To map all training data near one point, the network must extract the factors that they have in common; samples
    without these factors are mapped further away. It is Deep SAD without labeled samples (m = 0), with identical
    training steps. The score is the distance to the center, equation (4).

    Source: L. Ruff, R. A. Vandermeulen, N. Goernitz, L. Deecke, S. A. Siddiqui, A. Binder, E. Mueller, M. Kloft: Deep
    one-class classification, ICML 2018; as a competitor in appendix C of the Deep SAD paper, whose column "Deep SVDD"
    is the better of this and :class:`SoftBoundarySVDDModule`.

    How it is trained. phi is initialized with the encoder of an autoencoder and has no bias terms. The center is the
    mean of the training data's representations before the first step, with coordinates near 0 moved to +-.1. All this
    is as for Deep SAD, so that the two differ only in the use of labels.

    Training data. As an unsupervised method it is trained without labeled anomalies, and so is its autoencoder. The
    paper's tables imply this: their unsupervised columns do not change with gamma_l. (The authors' code does train on
    labeled anomalies.) Labeled normals are used like unlabeled samples. ``method.sees_labeled_anomalies=true`` adds
    labeled anomalies to the training data as if they were normal.

    Knobs:
        ``lr``, ``epochs``, ``batch_size``, ``weight_decay``, and those of ``pretrain``. Long training at a high rate
        ends in a collapse (all samples at one point); a warning reports this.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`.
        lr: learning rate of each phase.
        epochs: number of epochs of each phase.
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
    r"""Soft-boundary Deep SVDD: a hypersphere of radius R; a share nu of the data may lie outside.

    .. math::

        \min_{R, \mathcal W} R^2 + \frac{1}{\nu n} \sum_{i=1}^n \max\{0, \|\phi(x_i; \mathcal W) - c\|^2 - R^2\}
        + \frac{\lambda}{2} \sum_\ell \|W^\ell\|_F^2

    Only samples outside the sphere have a gradient. For fixed weights the best R is the (1 - nu)-quantile of the
    distances. It is computed on every mini-batch (appendix C) before the step on the weights, which treats it as a
    constant. The quantile is taken over the distances, with linear interpolation (another published implementation
    takes it over squared distances and squares it again). The score is the distance to the center, equation (4):
    subtracting the radius would not change the ranking.

    Source: Ruff et al., Deep one-class classification, ICML 2018, equation (3) there; appendix C of the Deep SAD paper,
    which runs nu = .01 and .1 and reports the best of these and :class:`DeepSVDDModule`.

    Training and training data are as for :class:`DeepSVDDModule`. The original code trains ten epochs with R = 0
    before it first computes R; the paper does not mention this, and here R is computed from the first step on. With
    several ranks the quantile is that of the global batch.

    Knobs:
        ``nu``: the share of the training data that is expected outside the sphere. Below 1 / batch_size only the
        farthest sample of a batch lies outside, with a weight of 1 / nu.
        ``lr``, ``epochs``, ``batch_size``, ``weight_decay``, and those of ``pretrain``.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`.
        nu: share of the training data that may lie outside, in (0, 1).
        lr: learning rate of each phase.
        epochs: number of epochs of each phase.
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
        """The summands of the objective for the batch's best radius, whatever the labels, shape (B,)."""
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
    # In double precision, (1 - nu) (B - 1) is an integer whenever it should be one.
    rank = (1 - nu) * (len(ordered) - 1)
    below = math.floor(rank)
    return torch.lerp(ordered[below], ordered[math.ceil(rank)], rank - below).to(distance.dtype)
