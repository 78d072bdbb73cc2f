"""The loss functions as pure functions of tensors: one value per sample, which the caller averages.

Computations are in float32 or float64: in half precision the inverse term of equation (9) overflows.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert a half-precision tensor to float32; return any other tensor unchanged."""
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


def deep_sad_terms(
    distance2: Tensor, semi_y: Tensor, eta: float | Tensor, eps: float = 1e-6, unit: float | Tensor = 1.0
) -> Tensor:
    r"""The summands of the Deep SAD objective, equation (9), without weight decay, which the optimizer applies.

    .. math::

        \|\phi(x_i) - c\|^2 \;\text{(unlabeled)}, \qquad
        \eta \left(\|\phi(\tilde x_j) - c\|^2\right)^{\tilde y_j} \;\text{(labeled)}

    Their mean over a batch estimates equation (9). Without labeled samples this is the one-class Deep SVDD objective,
    equation (3). ``eps`` is added only to the denominator of the inverse (footnote 1). With a ``unit`` u other
    than 1, a known anomaly has the term :math:`\eta\, u^2 / d^2`. This is u times the objective in which all squared
    distances are measured in u.

    Args:
        distance2: squared distances to the center, shape (B,), >= 0.
        semi_y: semi-labels, shape (B,): 0 unlabeled, +1 known normal, -1 known anomaly.
        eta: weight of the labeled terms, > 0; or a tensor that broadcasts, with a weight for each replica.
        eps: added to the squared distance of labeled anomalies before it is inverted.
        unit: the unit of squared distances, > 0; or a tensor that broadcasts, with one for each replica.

    Returns:
        Shape (B,).
    """
    unit = at_least_float32(unit) if isinstance(unit, Tensor) else unit
    inverse = eta * unit**2 / (distance2 + eps)
    return torch.where(semi_y == 0, distance2, torch.where(semi_y > 0, eta * distance2, inverse))


def soft_boundary_terms(distance2: Tensor, radius: Tensor, nu: float) -> Tensor:
    r"""The summands of the soft-boundary Deep SVDD objective (Ruff et al. 2018), without weight decay.

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
    # Compare distances, not squares: R is often exactly the distance of a sample, and then rounding of the squares
    # would decide whether that sample has a gradient.
    outside = distance2.detach().sqrt() > radius
    return radius2 + torch.where(outside, distance2 - radius2, 0.0) / nu


def classifier_terms(logits: Tensor, semi_y: Tensor) -> Tensor:
    """Binary cross-entropy that counts all samples but the labeled anomalies as normal (appendix C).

    Args:
        logits: logits of the class "anomaly", shape (B,).
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
