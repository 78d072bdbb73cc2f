"""Triton kernels for grouped convolutions with few channels per group, faster than cuDNN on a GPU."""

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deepsad_pl.training.compiling import missing_for_compiling

# Triton is installed with CUDA builds of torch; it is imported only with the kernels.
HAS_TRITON = find_spec("triton") is not None

# Measured with 96 replicas on an H200: up to 16 filters, and from 3 channels to 32 filters; cuDNN handles the rest.
_MOST_FILTERS = 32
_MOST_PRODUCTS = 128
# CUDA's limit for the second and third grid dimension, used for images and replicas.
_MOST_PROGRAMS = 65_535
_BLOCK = 128
# Number of programs among which a replica's batch is divided for the gradient of the filters.
_PARTS = 16


@cache
def _can_run(device: torch.device) -> bool:
    """Whether Triton runs on this device: an NVIDIA GPU with TF32, and a C compiler for Triton to call."""
    return (
        HAS_TRITON
        and torch.version.hip is None
        and torch.cuda.get_device_capability(device) >= (8, 0)
        and missing_for_compiling(on_gpu=True) is None
    )


def pays(x: Tensor, filters: Tensor) -> bool:
    """Whether these kernels can be used and are expected to be faster than cuDNN.

    Args:
        x: maps, shape (B, K * C, H, W).
        filters: shape (K * O, C, R, R).
    """
    many, channels = filters.shape[:2]
    outputs = many * channels // x.shape[1]
    return (
        x.is_cuda
        and x.dtype == filters.dtype == torch.float32
        and not torch.is_autocast_enabled(x.device.type)
        and outputs <= _MOST_FILTERS
        and outputs * channels <= _MOST_PRODUCTS
        and max(len(x), many) <= _MOST_PROGRAMS
        and _can_run(x.device)
    )


def small_convolution(x: Tensor, filters: Tensor, padding: int, groups: int) -> Tensor:
    """``F.conv2d(x, filters, padding=padding, groups=groups)`` in full single precision; differentiable once.

    Args:
        x: maps, shape (B, K * C, H, W).
        filters: square, shape (K * O, C, R, R).
        padding: zeros around the maps, at most R - 1.
        groups: number of replicas K.

    Returns:
        The output maps, shape (B, K * O, H', W') with H' = H + 2 * padding - R + 1, contiguous.
    """
    result: Tensor = _SmallConvolution.apply(x, filters, padding, groups)
    return result


class _SmallConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, filters: Tensor, padding: int, groups: int) -> Tensor:
        x, filters = x.contiguous(), filters.contiguous()
        ctx.save_for_backward(x, filters)
        ctx.padding, ctx.groups = padding, groups
        return _convolved(x, filters, padding, groups)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, filters = ctx.saved_tensors
        grad, of_x, of_filters = grad_outputs[0].contiguous(), None, None
        if ctx.needs_input_grad[0]:
            # At stride 1, the gradient of x is a convolution with mirrored filters.
            mirrored = filters.unflatten(0, (ctx.groups, -1)).transpose(1, 2).flip(3, 4).flatten(0, 1).contiguous()
            of_x = _convolved(grad, mirrored, filters.shape[2] - 1 - ctx.padding, ctx.groups)
        if ctx.needs_input_grad[1]:
            if 1 in (filters.shape[1], filters.shape[0] // ctx.groups):
                of_filters = _gradient_of_filters(x, grad, ctx.padding, ctx.groups)
            else:
                of_filters = _gradient_by_torch(x, grad, filters, ctx.padding, ctx.groups)
        return of_x, of_filters, None, None


def _convolved(x: Tensor, filters: Tensor, padding: int, groups: int) -> Tensor:
    from deepsad_pl.stacked import convolution_kernels

    batch, _, height, width = x.shape
    many, channels, size, _ = filters.shape
    outputs = many // groups
    shape = (height + 2 * padding - size + 1, width + 2 * padding - size + 1)
    y = x.new_empty(batch, many, *shape)
    grid = (-(-shape[0] * shape[1] // _BLOCK), batch, groups)
    convolution_kernels.convolve[grid](
        x, filters, y, groups, height, width, *shape, padding,
        channels=channels, outputs=outputs, padded_outputs=_power_of_2(outputs), size=size, block=_BLOCK,
    )  # fmt: skip
    return y


def _gradient_of_filters(x: Tensor, grad: Tensor, padding: int, groups: int) -> Tensor:
    from deepsad_pl.stacked import convolution_kernels

    batch, many, height, width = x.shape
    channels, outputs = many // groups, grad.shape[1] // groups
    size = height + 2 * padding - grad.shape[2] + 1
    if channels > outputs:
        # The kernel's time grows with the channels. With x and grad swapped, it gives the mirrored filters' gradient.
        mirrored = _gradient_of_filters(grad, x, size - 1 - padding, groups)
        return mirrored.view(groups, channels, outputs, size, size).transpose(1, 2).flip(3, 4).flatten(0, 1)
    # Partial sums added in a fixed order are reproducible bit by bit, unlike atomic additions.
    parts = x.new_empty(_PARTS, groups * outputs, channels, size, size)
    grid = (channels, _PARTS, groups)
    convolution_kernels.sum_products[grid](
        x, grad, parts, groups, batch, -(-batch // _PARTS), height, width, *grad.shape[2:], padding,
        channels=channels, outputs=outputs, padded_outputs=max(16, _power_of_2(outputs)),
        size=size, padded_area=max(16, _power_of_2(size * size)), block=_BLOCK,
    )  # fmt: skip
    return parts.sum(dim=0)


def _gradient_by_torch(x: Tensor, grad: Tensor, filters: Tensor, padding: int, groups: int) -> Tensor:
    """The gradient of the filters by cuDNN, which is faster than our kernel unless there is one channel or filter."""
    wanted = [False, True, False]
    found: Tensor = torch.ops.aten.convolution_backward(
        grad, x, filters, None, [1, 1], [padding] * 2, [1, 1], False, [0, 0], groups, wanted
    )[1]
    return found


def _power_of_2(least: int) -> int:
    return 1 << (least - 1).bit_length()


def grouped_convolution(x: Tensor, filters: Tensor, padding: tuple[int, ...], groups: int) -> Tensor:
    """Convolve each replica with its filters, by the fastest available implementation.

    Args:
        x: maps, shape (B, K * C, H, W).
        filters: shape (K * O, C, R, S).
        padding: zeros added vertically and horizontally.
        groups: number of replicas K.
    """
    if len({*padding}) == len({*filters.shape[2:]}) == 1 and pays(x, filters):
        return small_convolution(x, filters, padding[0], groups)
    # Grouped convolutions are faster with channels first in cuDNN, and with channels last on a CPU.
    layout = torch.contiguous_format if x.is_cuda else torch.channels_last
    return F.conv2d(x, filters.contiguous(memory_format=layout), padding=padding, groups=groups)
