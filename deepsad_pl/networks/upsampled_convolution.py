"""Nearest upsampling by two and the convolution that follows, computed on the small image."""

from collections import deque
from collections.abc import Iterable
from typing import TypeGuard

import torch.nn.functional as F
from torch import Tensor, nn

_SIZE = 5
# Measured on one thread of a CPU: below so many pixels of all small images together, preparing the filters takes longer
# than it saves.
_LEAST_PIXELS = 1024


def upsampled_convolution(x: Tensor, weight: Tensor) -> Tensor:
    r"""``F.conv_transpose2d(F.interpolate(x, scale_factor=2), weight, padding=2)`` for 5x5 filters, up to rounding.

    Of the 25 pixels under a filter, those that are copies of one small pixel share its value, so their taps can be
    added beforehand. Which ones they are depends only on whether the row and the column of the output are even:

    .. math::

        y_{2i+a,\, 2j+b} = \sum_{r,s=-1}^{1} k^{ab}_{rs}\, x_{i+r,\, j+s}, \qquad a, b \in \{0, 1\}

    Four filters of 3x3 taps thus give the four pixels in place of each small one, with 9 instead of 25 products per
    pixel, and the large image is never filled with copies.

    Args:
        x: small images, shape (B, K * C, h, w).
        weight: filters of K transposed convolutions, each of which is applied to its own C channels, shape
            (K, C, O, 5, 5).

    Returns:
        Shape (B, K * O, 2h, 2w).
    """
    return F.pixel_shuffle(F.conv2d(x, _four_filters(weight), padding=1, groups=len(weight)), 2)


def _four_filters(weight: Tensor) -> Tensor:
    """The filters of a convolution to four channels for each of ``weight``, shape (K * O * 4, C, 3, 3)."""
    padded = F.pad(weight, (1, 1, 1, 1))
    pairs = padded[..., 1:, :] + padded[..., :-1, :]
    pairs = pairs[..., 1:] + pairs[..., :-1]
    # (K, C, O, 3, a, 3, b). A convolution has the taps of a transposed one in reverse order.
    taps = pairs.reshape(*pairs.shape[:3], 3, 2, 3, 2).flip(3, 5)
    # In this order in memory the filters are channels-last.
    return taps.permute(0, 2, 4, 6, 3, 5, 1).flatten(0, 3).permute(0, 3, 1, 2)


def can_merge(layer: nn.Module | None, following: nn.Module | None) -> TypeGuard[nn.Upsample]:
    """Whether two layers are a nearest upsampling and a transposed convolution with 5x5 filters that keeps the size."""
    return (
        type(layer) is nn.Upsample
        and layer.mode == "nearest"
        and type(following) is nn.ConvTranspose2d
        and following.bias is None
        and following.kernel_size == (_SIZE, _SIZE)
        and following.padding == (_SIZE // 2, _SIZE // 2)
        and following.output_padding == (0, 0)
        and following.stride == following.dilation == (1, 1)
        and following.groups == 1
    )


def pays(x: Tensor, size: int | tuple[int, ...] | None) -> bool:
    """Whether :func:`upsampled_convolution` gives images of this size from x, and is expected to be faster.

    On a GPU it is not expected to, since it has not been measured there.

    Args:
        x: small images, shape (B, C, h, w).
        size: height and width of the large images, as an ``nn.Upsample`` has them.
    """
    batch, _, height, width = x.shape
    return x.device.type == "cpu" and size == (2 * height, 2 * width) and batch * height * width >= _LEAST_PIXELS


def run_merged(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Apply layers one after the other, each upsampling together with the convolution after it where that pays."""
    remaining = deque(layers)
    while remaining:
        layer = remaining.popleft()
        following = remaining[0] if remaining else None
        if can_merge(layer, following) and pays(x, layer.size):
            weight: Tensor = remaining.popleft().weight  # type: ignore[assignment]
            x = upsampled_convolution(x, weight[None])
        else:
            x = layer(x)
    return x
