"""Batch normalization and leaky ReLU of many replicas at once, each over its own part of the batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Which rows of a stacked batch count: replica k has the first ``sizes[k]`` of B.

    Attributes:
        sizes: one of each replica, >= 1.
        count: the same, shape (K, 1, 1).
        weight: 1 / size for a row of the replica and 0 for padding, shape (K, 1, B).
        valid: 1 and 0 alike, shape (K, B, 1); None if nothing is padded.
    """

    sizes: tuple[int, ...]
    count: Tensor
    weight: Tensor
    valid: Tensor | None

    @staticmethod
    def of(sizes: Sequence[int], like: Tensor, width: int | None = None) -> "Rows":
        """The rows of a batch.

        Args:
            sizes: of each replica's part, >= 1.
            like: has the device and, where it is a floating one, the type of the tensors.
            width: B; None: the largest of the sizes.
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
        """n / (n - 1) with n the replica's size, shape (K, 1, 1)."""
        return self.count / (self.count - 1).clamp(min=1)

    def repeated(self, times: int) -> "Rows":
        """The rows when each of them is ``times`` rows, side by side: the pixels of a feature map."""
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
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, valid: Tensor | None, eps: float, slope: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            full = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            # A product with the weights is several times faster than a masked mean.
            mean = torch.bmm(weight, full)
            normalized = full - mean
            var = torch.bmm(weight, normalized.square())
            inverse = (var + eps).rsqrt()
            normalized.mul_(inverse)
            ctx.save_for_backward(normalized, inverse, weight, valid)
            ctx.slope, ctx.dtype = slope, x.dtype
            ctx.mark_non_differentiable(mean, var)
            return F.leaky_relu(normalized, slope).to(x.dtype), mean, var

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        normalized, inverse, weight, valid = ctx.saved_tensors
        with torch.autocast(normalized.device.type, enabled=False):
            grad = grad_outputs[0].to(normalized.dtype)
            grad = torch.ops.aten.leaky_relu_backward(grad, normalized, ctx.slope, False)
            mean = torch.bmm(weight, grad)
            along = torch.bmm(weight, grad * normalized)
            grad.sub_(mean).addcmul_(normalized, along, value=-1).mul_(inverse)
            if valid is not None:
                grad.mul_(valid)
            return grad.to(ctx.dtype), None, None, None, None


def norm_and_leaky_relu(x: Tensor, rows: Rows, *, eps: float, slope: float) -> tuple[Tensor, Tensor, Tensor]:
    r"""Normalize the columns of each replica over its rows, then leaky ReLU.

    .. math::

        \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad y = \max(\hat x, 0) + s \min(\hat x, 0)

    with the mean and the (biased) variance over the replica's rows. Rows of padding get some finite value and pass no
    gradient on; none may come back to them, so that the loss must not depend on them. Computed in float32 at least.

    Args:
        x: shape (K, B, C).
        rows: which of the B rows count.
        eps: added to the variance.
        slope: s, of negative values; 1 leaves them as they are.

    Returns:
        y, shape (K, B, C) in x's dtype; the mean and the biased variance, shape (K, 1, C) each.
    """
    result: tuple[Tensor, Tensor, Tensor] = _NormAndLeakyReLU.apply(x, rows.weight, rows.valid, eps, slope)
    return result


class _NormAndLeakyReLUOfMaps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, valid: Tensor, eps: float, slope: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            full = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            # Over the pixels first: no product of all maps is ever written.
            mean = (full.sum(dim=3) * weight).sum(dim=0)
            normalized = full - mean[..., None]
            var = (torch.linalg.vector_norm(normalized, dim=3).square_() * weight).sum(dim=0)
            inverse = (var + eps).rsqrt()
            normalized.mul_(inverse[..., None])
            ctx.save_for_backward(normalized, inverse, weight, valid)
            ctx.slope, ctx.dtype = slope, x.dtype
            ctx.mark_non_differentiable(mean, var)
            return F.leaky_relu(normalized, slope).to(x.dtype), mean, var

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        normalized, inverse, weight, valid = ctx.saved_tensors
        with torch.autocast(normalized.device.type, enabled=False):
            grad = grad_outputs[0].to(normalized.dtype)
            grad = torch.ops.aten.leaky_relu_backward(grad, normalized, ctx.slope, False)
            mean = (grad.sum(dim=3) * weight).sum(dim=0)
            along = ((grad * normalized).sum(dim=3) * weight).sum(dim=0)
            grad.sub_(mean[..., None]).addcmul_(normalized, along[..., None], value=-1)
            # Padding passes no gradient on.
            grad.mul_(inverse[..., None] * valid[..., None])
            return grad.to(ctx.dtype), None, None, None, None


def norm_and_leaky_relu_of_maps(
    x: Tensor, rows: Rows, *, eps: float, slope: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """:func:`norm_and_leaky_relu` of maps that lie in memory by channel, as on a GPU, some rows of which are padding.

    Args:
        x: shape (B, K * C, H, W).
        rows: which of the B rows count, with padding.
        eps: added to the variance.
        slope: of negative values; 1 leaves them as they are.

    Returns:
        y, shape (B, K * C, H, W) in x's dtype; the mean and the biased variance, shape (K, C) each; what the latter is
        multiplied by for the unbiased one, shape (K, 1).
    """
    assert rows.valid is not None
    replicas, pixels = len(rows.sizes), x.shape[2] * x.shape[3]
    weight = rows.weight.permute(2, 0, 1) / pixels  # (B, K, 1)
    parts = x.view(len(x), replicas, -1, pixels)
    y, mean, var = _NormAndLeakyReLUOfMaps.apply(parts, weight, rows.valid.transpose(0, 1), eps, slope)
    count = rows.count[:, 0] * pixels
    return y.view(x.shape), mean, var, count / (count - 1)
