"""Batch normalization and leaky ReLU of many replicas at once, each over its own part of the batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
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
    """The arithmetic, whatever the layout: ``mean_of`` and ``mean_square_of`` reduce x to a shape that broadcasts."""

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
    # A product with the weights is several times faster than a masked mean.
    mean_of = partial(torch.bmm, rows.weight)
    result: tuple[Tensor, Tensor, Tensor] = _NormAndLeakyReLU.apply(
        x, rows.valid, mean_of, lambda centered: mean_of(centered.square()), eps, slope
    )
    return result


def norm_and_leaky_relu_of_maps(
    x: Tensor, rows: Rows, *, eps: float, slope: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """:func:`norm_and_leaky_relu` for contiguous maps (channels first, as on a GPU), some rows of which are padding.

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

    # Over the pixels first, so that no product of all maps is written to memory.
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
