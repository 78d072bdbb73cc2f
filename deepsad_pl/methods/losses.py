"""Every objective as a pure function of tensors: one value a sample, reduced by the caller.

All of them compute in float32 at least: in half precision the inverse term of equation (9) overflows.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor itself, or its float32 copy when it is half precision."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def squared_distance(z: Tensor, center: Tensor) -> Tensor:
    r"""Squared Euclidean distance :math:`\|\phi(x) - c\|^2` to the center (section 3.1).

    Args:
        z: representations, shape (B, d).
        center: the hypersphere center, shape (d,).

    Returns:
        Shape (B,), in float32 or float64.
    """
    return (at_least_float32(z) - at_least_float32(center)).square().sum(dim=-1)


def deep_sad_terms(distance2: Tensor, semi_y: Tensor, eta: float | Tensor, eps: float = 1e-6) -> Tensor:
    r"""The summands of the Deep SAD objective, equation (9), without the weight decay (the optimizer's business).

    .. math::

        \|\phi(x_i) - c\|^2 \;\text{(unlabeled)}, \qquad
        \eta \left(\|\phi(\tilde x_j) - c\|^2\right)^{\tilde y_j} \;\text{(labeled)}

    Their mean over a batch is the batch's share of equation (9). With no labeled sample it is the one-class Deep SVDD
    objective, equation (3). The ``eps`` stands in the denominator of the inverse only (footnote 1).

    Args:
        distance2: squared distances to the center, shape (B,), >= 0.
        semi_y: semi-labels, shape (B,): 0 unlabeled, +1 known normal, -1 known anomaly.
        eta: weight of the labeled terms, > 0; a tensor that broadcasts for one a replica.
        eps: added to the squared distance of labeled anomalies before it is inverted.

    Returns:
        Shape (B,).
    """
    inverse = eta / (distance2 + eps)
    return torch.where(semi_y == 0, distance2, torch.where(semi_y > 0, eta * distance2, inverse))


def soft_boundary_terms(distance2: Tensor, radius: Tensor, nu: float) -> Tensor:
    r"""The summands of the soft-boundary Deep SVDD objective (Ruff et al. 2018), without the weight decay.

    .. math::

        R^2 + \frac{1}{\nu} \max\{0, \|\phi(x_i) - c\|^2 - R^2\}

    Args:
        distance2: squared distances to the center, shape (B,), >= 0.
        radius: R, a scalar.
        nu: the share of samples that may lie outside, in (0, 1).

    Returns:
        Shape (B,).
    """
    radius2 = radius.square()
    # Distances are compared, not squares: where R is a sample's own distance, as quantiles often are, rounding would
    # decide whether that sample has a gradient.
    outside = distance2.detach().sqrt() > radius
    return radius2 + torch.where(outside, distance2 - radius2, 0.0) / nu


def classifier_terms(logits: Tensor, semi_y: Tensor) -> Tensor:
    """Binary cross-entropy with everything but labeled anomalies counted as normal (appendix C).

    Args:
        logits: of "anomaly", shape (B,).
        semi_y: semi-labels, shape (B,): 0 unlabeled, +1 known normal, -1 known anomaly.

    Returns:
        Shape (B,).
    """
    target = (semi_y == -1).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def squared_error(reconstruction: Tensor, x: Tensor) -> Tensor:
    """Mean squared reconstruction error of each sample: the autoencoder's loss and its anomaly score (appendix C).

    Args:
        reconstruction: shape (B, ...).
        x: the input, of the same shape.

    Returns:
        Shape (B,), the mean over all but the first dimension.
    """
    return (at_least_float32(reconstruction) - at_least_float32(x)).square().flatten(1).mean(dim=1)


def cross_entropy(logits: Tensor, x: Tensor) -> Tensor:
    """Binary cross-entropy of each sample's reconstruction, the other loss that appendix A allows for pre-training.

    Args:
        logits: the decoder's output before the sigmoid, shape (B, ...).
        x: the input, of the same shape, in [0, 1].

    Returns:
        Shape (B,), the mean over all but the first dimension.
    """
    loss = F.binary_cross_entropy_with_logits(at_least_float32(logits), at_least_float32(x), reduction="none")
    return loss.flatten(1).mean(dim=1)
