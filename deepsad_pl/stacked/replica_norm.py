"""Batch normalization and leaky ReLU for many replicas at once, each over its own part of the batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Which rows of a stacked batch are not padding: the first ``sizes[k]`` of B rows for replica k.

    Attributes:
        sizes: number of rows of each replica, >= 1.
        count: the sizes as a tensor, shape (K, 1, 1).
        weight: 1 / size for a real row and 0 for padding, shape (K, 1, B).
        valid: 1 for a real row and 0 for padding, shape (K, B, 1); None if nothing is padded.
    """

    sizes: tuple[int, ...]
    count: Tensor
    weight: Tensor
    valid: Tensor | None

    @staticmethod
    def of(sizes: Sequence[int], like: Tensor, width: int | None = None) -> "Rows":
        """Create the rows of a batch.

        Args:
            sizes: number of rows of each replica, >= 1.
            like: gives the device and, if it is floating-point, the dtype of the tensors.
            width: B; None: the largest size.
        """
        dtype = like.dtype if like.is_floating_point() else torch.float32
        count = torch.tensor(sizes, dtype=dtype)[:, None, None]
        valid = (torch.arange(width or max(sizes))[:, None] < count).to(dtype)
        weight = (valid / count).transpose(1, 2).contiguous()
        padded = min(sizes) < valid.shape[1]
        return Rows(
            tuple(sizes),
            count.to(like.device),
            weight.to(like.device),
            valid.to(like.device) if padded else None,
        )

    @cached_property
    def unbiased(self) -> Tensor:
        """Factor n / (n - 1) with n the replica's size, shape (K, 1, 1)."""
        return self.count / (self.count - 1).clamp(min=1)

    def repeated(self, times: int) -> "Rows":
        """The rows with each repeated ``times`` times consecutively, as for the pixels of a feature map."""
        if times not in self._repeated:
            weight = self.weight.repeat_interleave(times, dim=2) / times
            valid = None if self.valid is None else self.valid.repeat_interleave(times, dim=1)
            sizes = tuple(size * times for size in self.sizes)
            self._repeated[times] = Rows(sizes, self.count * times, weight, valid)
        return self._repeated[times]

    @cached_property
    def _repeated(self) -> dict[int, "Rows"]:
        return {}


class _NormAndLeakyReLU(torch.autograd.Function):
    """The computation for any layout: ``mean_of`` and ``mean_square_of`` reduce x to a shape that broadcasts to it."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        valid: Tensor | None,
        mean_of: Callable[[Tensor], Tensor],
        mean_square_of: Callable[[Tensor], Tensor],
        eps: float,
        slope: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            full = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            mean = mean_of(full)
            normalized = full - mean
            var = mean_square_of(normalized)
            inverse = (var + eps).rsqrt()
            normalized.mul_(inverse)
            ctx.save_for_backward(normalized, inverse, valid)
            ctx.mean_of, ctx.slope, ctx.dtype = mean_of, slope, x.dtype
            ctx.mark_non_differentiable(mean, var)
            return F.leaky_relu(normalized, slope).to(x.dtype), mean, var

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        normalized, inverse, valid = ctx.saved_tensors
        with torch.autocast(normalized.device.type, enabled=False):
            grad = grad_outputs[0].to(normalized.dtype)
            grad = torch.ops.aten.leaky_relu_backward(grad, normalized, ctx.slope, False)
            mean = ctx.mean_of(grad)
            along = ctx.mean_of(grad * normalized)
            grad.sub_(mean).addcmul_(normalized, along, value=-1).mul_(inverse)
            if valid is not None:
                grad.mul_(valid)
            return grad.to(ctx.dtype), None, None, None, None, None


def norm_and_leaky_relu(x: Tensor, rows: Rows, *, eps: float, slope: float) -> tuple[Tensor, Tensor, Tensor]:
    r"""Normalize the columns of each replica over its rows, then apply leaky ReLU.

    .. math::

        \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad y = \max(\hat x, 0) + s \min(\hat x, 0)

    with the mean and the (biased) variance over the replica's rows. Padding rows get an arbitrary finite value and pass
    on no gradient. The loss must not depend on them, so that they receive no gradient either. Computed in at least
    float32.

    Args:
        x: input, shape (K, B, C).
        rows: which of the B rows are not padding.
        eps: added to the variance.
        slope: slope s for negative values; 1 disables the ReLU.

    Returns:
        y, shape (K, B, C) in x's dtype; the mean and the biased variance, shape (K, 1, C) each.
    """
    # A matrix product with the weights is several times faster than a masked mean.
    mean_of = partial(torch.bmm, rows.weight)
    result: tuple[Tensor, Tensor, Tensor] = _NormAndLeakyReLU.apply(
        x, rows.valid, mean_of, lambda centered: mean_of(centered.square()), eps, slope
    )
    return result


def norm_and_leaky_relu_of_maps(
    x: Tensor, rows: Rows, *, eps: float, slope: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """:func:`norm_and_leaky_relu` for contiguous maps (channels first, as on a GPU) with padding.

    Args:
        x: input maps, shape (B, K * C, H, W).
        rows: which of the B rows are not padding; ``valid`` must not be None.
        eps: added to the variance.
        slope: slope for negative values; 1 disables the ReLU.

    Returns:
        y, shape (B, K * C, H, W) in x's dtype; the mean and the biased variance, shape (K, C) each; the factor from the
        biased to the unbiased variance, shape (K, 1).
    """
    assert rows.valid is not None
    replicas, pixels = len(rows.sizes), x.shape[2] * x.shape[3]
    weight = rows.weight.permute(2, 0, 1) / pixels  # (B, K, 1)

    # Reduce over pixels first, so that no product of the size of all maps is written to memory.
    def mean_of(maps: Tensor) -> Tensor:
        return (maps.sum(dim=3) * weight).sum(dim=0)[..., None]

    def mean_square_of(maps: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(maps, dim=3)
        return (norm.square_() * weight).sum(dim=0)[..., None]

    parts = x.view(len(x), replicas, -1, pixels)
    valid = rows.valid.transpose(0, 1)[..., None]
    y, mean, var = _NormAndLeakyReLU.apply(parts, valid, mean_of, mean_square_of, eps, slope)
    count = rows.count[:, 0] * pixels
    return y.view(x.shape), mean[..., 0], var[..., 0], count / (count - 1)
