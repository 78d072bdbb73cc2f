"""Triton kernels of :mod:`~deepsad_pl.stacked.small_convolution`; all tensors are contiguous."""

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def convolve(  # type: ignore[no-untyped-def]
    x, filters, y, groups, height, width, out_height, out_width, padding,
    channels: tl.constexpr, outputs: tl.constexpr, padded_outputs: tl.constexpr,
    size: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Convolution: each program computes a block of pixels of one image and replica, for all filters."""
    image, replica = tl.program_id(1), tl.program_id(2)
    zero = tl.zeros((), tl.int64)  # offsets may exceed 32 bits
    pixel = tl.program_id(0) * block + tl.arange(0, block)
    row, column = pixel // out_width - padding, pixel % out_width - padding
    inside = pixel < out_height * out_width
    filter_ = tl.arange(0, padded_outputs)
    exists = filter_ < outputs
    plane = (zero + image) * groups + replica
    x += plane * channels * height * width
    filters += replica * outputs * channels * size * size
    total = tl.zeros((padded_outputs, block), tl.float32)
    for c in range(channels):
        for i in tl.static_range(size):
            for j in tl.static_range(size):
                there = inside & (row + i >= 0) & (row + i < height) & (column + j >= 0) & (column + j < width)
                value = tl.load(x + (c * height + row + i) * width + column + j, there, 0.0)
                weight = tl.load(filters + ((filter_ * channels + c) * size + i) * size + j, exists, 0.0)
                total += weight[:, None] * value[None, :]
    y += plane * outputs * out_height * out_width
    where = filter_[:, None] * (out_height * out_width) + pixel[None, :]
    tl.store(y + where, total, exists[:, None] & inside[None, :])


@triton.jit  # type: ignore[untyped-decorator]
def sum_products(  # type: ignore[no-untyped-def]
    x, grad, parts, groups, batch, images, height, width, out_height, out_width, padding,
    channels: tl.constexpr, outputs: tl.constexpr, padded_outputs: tl.constexpr,
    size: tl.constexpr, padded_area: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Gradient of the filters, in partial sums that the caller adds up.

    Each program handles one channel of all filters of a replica, over a part of the batch.
    """
    zero = tl.zeros((), tl.int64)  # offsets may exceed 32 bits
    c, part, replica = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    filter_, weight = tl.arange(0, padded_outputs), tl.arange(0, padded_area)
    exists, counts = filter_ < outputs, weight < size * size
    i, j = weight // size, weight % size
    total = tl.zeros((padded_area, padded_outputs), tl.float32)
    for image in range(part * images, tl.minimum(part * images + images, batch)):
        plane = (zero + image) * groups + replica
        maps = x + (plane * channels + c) * height * width
        slopes = grad + plane * outputs * out_height * out_width
        for first in range(0, out_height * out_width, block):
            pixel = first + tl.arange(0, block)
            inside = pixel < out_height * out_width
            row = (pixel // out_width - padding)[None, :] + i[:, None]
            column = (pixel % out_width - padding)[None, :] + j[:, None]
            there = inside[None, :] & counts[:, None]
            there = there & (row >= 0) & (row < height) & (column >= 0) & (column < width)
            value = tl.load(maps + row * width + column, there, 0.0)
            where = filter_[None, :] * (out_height * out_width) + pixel[:, None]
            slope = tl.load(slopes + where, exists[None, :] & inside[:, None], 0.0)
            # Three TF32 products give single precision.
            total = tl.dot(value, slope, total, input_precision="tf32x3")
    filter_of = (part * groups + replica) * outputs + filter_[None, :]
    target = (filter_of * channels + c) * size * size + weight[:, None]
    tl.store(parts + target, total, exists[None, :] & counts[:, None])
