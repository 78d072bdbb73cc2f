"""Batch norm that ignores padding rows, for networks that are vectorized unchanged."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from deepsad_pl.networks.batch_norm import BatchNorm
from deepsad_pl.stacked.replica_norm import Rows

_KNOWN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNorm)


@dataclass(frozen=True)
class Padded:
    """Which rows of a batch are padding.

    Attributes:
        weight: 1 / size for a real row and 0 for padding, shape (B,).
        valid: 1 for a real row and 0 for padding, shape (B,).
        fill: value that every batch norm writes into padding rows, to test whether real rows are affected; None: do not
            overwrite them.
    """

    weight: Tensor
    valid: Tensor
    fill: float | None = None


def paddings(x: Tensor, semi_y: Tensor, rows: Rows) -> Iterator[tuple[float | None, Rows, Tensor, Tensor]]:
    """Yield a batch with an additional padding row per replica, filled in ways that affect any loss that reads it.

    Args:
        x: input, shape (K, B, ...).
        semi_y: semi-labels, shape (K, B).
        rows: which of the B rows are not padding.

    Yields:
        The value that batch norms write into padding rows (None: none), the rows, the input and the semi-labels.

    Raises:
        ValueError: if the input is not floating-point.
    """
    if not x.is_floating_point():
        raise ValueError(f"padding of {x.dtype} is not supported")
    wide = Rows.of(rows.sizes, x, x.shape[1] + 1)
    assert wide.valid is not None
    padding = wide.valid[..., 0] == 0
    x, semi_y = (torch.cat([of, of[:, :1]], dim=1) for of in (x, semi_y))
    # One of these values changes any sum, maximum, quantile or count over the batch.
    large = 1e4 * (1 + float(x.abs().max()))
    for fill, label in ((None, 0), (math.nan, 1), (large, -1), (-large, 0)):
        filled = x.clone()
        if fill is not None:
            filled[padding] = fill
        yield fill, wide, filled, semi_y.masked_fill(padding, label)


class PaddedNorms:
    """Replaces the batch norms of a network by ones that ignore padding, if there is any.

    Args:
        network: the network whose batch norms are replaced.

    Attributes:
        padded: padding of the current batch; None: there is none.

    Raises:
        ValueError: if a batch norm is of an unknown class or has no momentum.
    """

    def __init__(self, network: nn.Module) -> None:
        self.padded: Padded | None = None
        for part in network.modules():
            if not isinstance(part, _BatchNorm):
                continue
            if type(part) not in _KNOWN or part.momentum is None:
                raise ValueError(f"{part} is not supported")
            # Set on the instance, where it overrides the method of the class.
            part.forward = partial(self._forward, part)  # type: ignore[method-assign]

    def _forward(self, norm: _BatchNorm, x: Tensor) -> Tensor:
        if self.padded is None or not (norm.training or norm.running_mean is None):
            return type(norm).forward(norm, x)
        norm._check_input_dim(x)  # type: ignore[no-untyped-call]
        return _normalized(norm, x, self.padded)


def _normalized(norm: _BatchNorm, x: Tensor, padded: Padded) -> Tensor:
    if len(x) != len(padded.valid):
        raise ValueError(f"batch norm gets {len(x)} rows of a batch of {len(padded.valid)}")
    counts = padded.valid.view(-1, *[1] * (x.dim() - 1)) > 0
    if padded.fill is not None:
        x = torch.where(counts, x, 0.0)
    with torch.autocast(x.device.type, enabled=False):
        full = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        # Padding rows get no gradient from a product with weights of 0, which is faster than a masked mean.
        mean = padded.weight @ _over_pixels(full)
        centered = full - _of_channels(mean, x)
        var = padded.weight @ _over_pixels(centered.square())
        y = centered * _of_channels((var + norm.eps).rsqrt(), x)
        if norm.affine:
            y = y * _of_channels(norm.weight, x) + _of_channels(norm.bias, x)
    if norm.running_mean is not None:
        assert norm.running_var is not None and norm.momentum is not None and norm.num_batches_tracked is not None
        with torch.no_grad():
            count = padded.valid.sum() * x[0, 0].numel()
            unbiased = var * (count / (count - 1).clamp(min=1))
            # Not lerp_, which torch.func does not vectorize.
            for running, of_batch in ((norm.running_mean, mean), (norm.running_var, unbiased)):
                running.mul_(1 - norm.momentum).add_(of_batch, alpha=norm.momentum)
            norm.num_batches_tracked.add_(1)
    y = y.to(x.dtype)
    return y if padded.fill is None else torch.where(counts, y, padded.fill)


def _over_pixels(x: Tensor) -> Tensor:
    """Average over pixels: (B, C, ...) -> (B, C)."""
    return x.flatten(2).mean(dim=2) if x.dim() > 2 else x


def _of_channels(tensor: Tensor, x: Tensor) -> Tensor:
    """Reshape (C,) so that it broadcasts to x, (B, C, ...)."""
    return tensor.view(-1, *[1] * (x.dim() - 2))
