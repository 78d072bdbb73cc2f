"""The loss terms of (semi-supervised) variational autoencoders as pure functions of tensors: one value per sample.

Computations are in float32 or float64: half precision is too coarse for a log-likelihood summed over hundreds of
pixels.

Source: D. P. Kingma, D. J. Rezende, S. Mohamed, M. Welling: Semi-supervised learning with deep generative models,
NeurIPS 2014; the equation numbers are those of that paper.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from deepsad_pl.methods.losses import at_least_float32


def reparameterized(mean: Tensor, log_var: Tensor, noise: Tensor) -> Tensor:
    """A sample of N(mean, exp(log_var)) as a differentiable function of ``mean`` and ``log_var``.

    Args:
        mean: shape (..., d).
        log_var: logarithm of the variances, shape (..., d).
        noise: standard normal, of a shape that broadcasts to (..., d).

    Returns:
        Shape (..., d), in float32 or float64.
    """
    return at_least_float32(mean) + (at_least_float32(log_var) / 2).exp() * noise


def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    r"""The KL divergence of a diagonal Gaussian from the prior of z, the last term of equations (5) and (6).

    .. math::

        KL(N(\mu, \mathrm{diag}(\sigma^2)) \,\|\, N(0, I)) = \frac{1}{2} \sum_k \left(\mu_k^2 + \sigma_k^2 - 1 -
        \log \sigma_k^2\right)

    Args:
        mean: shape (B, d).
        log_var: logarithm of the variances, of any sign, shape (B, d).

    Returns:
        Shape (B,), >= 0.
    """
    mean, log_var = at_least_float32(mean), at_least_float32(log_var)
    # expm1, because exp(log_var) - 1 loses digits near the prior, where many coordinates end up.
    return 0.5 * (mean.square() + torch.expm1(log_var) - log_var).sum(dim=1)


def bernoulli_log_likelihood(logits: Tensor, x: Tensor) -> Tensor:
    """log p(x) under independent Bernoulli pixels, equation (1).

    Args:
        logits: shape (B, ...).
        x: of the same shape, in [0, 1]; for values between 0 and 1 the result is the expectation over binary pixels
            with these means.

    Returns:
        Shape (B,), <= 0, the sum over all but the first dimension.
    """
    loss = F.binary_cross_entropy_with_logits(at_least_float32(logits), at_least_float32(x), reduction="none")
    return -loss.flatten(1).sum(dim=1)


def gaussian_log_likelihood(mean: Tensor, x: Tensor) -> Tensor:
    r"""log p(x) under a Gaussian of unit variance, :math:`-\|x - \mu\|^2 / 2 - D / 2 \log 2 \pi`, equation (1).

    Args:
        mean: shape (B, ...).
        x: of the same shape, with D numbers per sample.

    Returns:
        Shape (B,), the sum over all but the first dimension.
    """
    squares = (at_least_float32(x) - at_least_float32(mean)).square() + math.log(2 * math.pi)
    return -0.5 * squares.flatten(1).sum(dim=1)


# Maps the decoder's output and x, both of shape (B, ...), to log p(x), shape (B,).
Likelihood = Callable[[Tensor, Tensor], Tensor]
LIKELIHOODS: dict[str, Likelihood] = {
    "bernoulli": bernoulli_log_likelihood,
    "gaussian": gaussian_log_likelihood,
}


def labeled_bound(log_likelihood: Tensor, kl: Tensor, log_prior_y: float = -math.log(2)) -> Tensor:
    r"""The lower bound of log p(x, y), which is -L(x, y) of equation (6); training maximizes it.

    .. math::

        -L(x, y) = E_{q(z|x, y)}\left[\log p(x|y, z)\right] + \log p(y) - KL(q(z|x, y) \,\|\, p(z)) \leq \log p(x, y)

    Args:
        log_likelihood: log p(x|y, z) at a sample z of q(z|x, y), any shape.
        kl: KL(q(z|x, y) || p(z)), of the same shape.
        log_prior_y: log p(y); by default both labels are equally probable.

    Returns:
        The bound, of the same shape.
    """
    return log_likelihood + log_prior_y - kl


def unlabeled_bound(bounds: Tensor, logits: Tensor) -> Tensor:
    r"""The lower bound of log p(x), which is -U(x) of equation (7); training maximizes it.

    .. math::

        -U(x) = \sum_y q(y|x) (-L(x, y)) + H(q(y|x)) \leq \log \sum_y \exp(-L(x, y))

    Args:
        bounds: -L(x, y) of each label, shape (B, 2).
        logits: logits of q(y|x), shape (B, 2).

    Returns:
        Shape (B,).
    """
    log_q = F.log_softmax(at_least_float32(logits), dim=1)
    return (log_q.exp() * (at_least_float32(bounds) - log_q)).sum(dim=1)


def alpha_weight(labeled_share: float) -> float:
    r"""The weight of a labeled sample's cross-entropy, equation (9).

    The paper weights the mean over the labeled samples with :math:`\alpha = 0.1 N`, while the bounds are summed over
    the samples. With N the number of unlabeled samples, each labeled sample has the weight :math:`0.1 (1 - r) / r`.

    Args:
        labeled_share: r, the share of labeled samples in the training data, in (0, 1).

    Raises:
        ValueError: if r is not inside (0, 1).
    """
    if not 0 < labeled_share < 1:
        raise ValueError(
            f"labeled_share is {labeled_share}, but it must lie between 0 and 1: label some of the samples and leave "
            "some unlabeled, or use another method"
        )
    return 0.1 * (1 - labeled_share) / labeled_share


def ss_dgm_terms(bounds: Tensor, logits: Tensor, semi_y: Tensor, alpha: float | Tensor) -> Tensor:
    r"""The summands of the objective, equations (8) and (9), without weight decay, which the optimizer applies.

    .. math::

        L(x, y) - \alpha \log q(y|x) \;\text{(labeled)}, \qquad U(x) \;\text{(unlabeled)}

    Both terms are computed for every sample and then one is selected, so that each parameter has a gradient in every
    batch, even if it is 0. DistributedDataParallel relies on this.

    Args:
        bounds: -L(x, y) of the labels normal and anomaly, shape (B, 2).
        logits: logits of q(y|x), shape (B, 2).
        semi_y: semi-labels, shape (B,): 0 unlabeled, +1 known normal, -1 known anomaly.
        alpha: weight of the cross-entropy, >= 0, see :func:`alpha_weight`; or a weight for each sample, shape (B,).

    Returns:
        Shape (B,).
    """
    y = (semi_y == -1).long()
    cross_entropy = F.cross_entropy(at_least_float32(logits), y, reduction="none")
    labeled = alpha * cross_entropy - bounds.gather(1, y[:, None]).squeeze(1)
    return torch.where(semi_y == 0, -unlabeled_bound(bounds, logits), labeled)
