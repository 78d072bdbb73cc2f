"""How much a network computes for a sample, in closed form. Does not import torch, since it is needed to plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any


@dataclass(frozen=True)
class Work:
    """The work of phi for one sample in a forward pass.

    Attributes:
        multiply_adds: number of multiply-adds in convolutions and dense layers.
        values: number of outputs of these layers, which normalization, activation and pooling then read.
        width: d, the width of the representation.
    """

    multiply_adds: int
    values: int
    width: int


def mlp_work(network: Mapping[str, Any], shape: Sequence[int]) -> Work:
    """The work of an :class:`~deepsad_pl.networks.mlp.MLP`.

    >>> mlp_work({"units": [32, 16, 8]}, [21])
    Work(multiply_adds=1312, values=56, width=8)

    Args:
        network: its settings.
        shape: (D,), the number of columns.
    """
    return _dense([prod(shape), *network["units"]])


def lenet_work(network: Mapping[str, Any], shape: Sequence[int]) -> Work:
    """The work of a :class:`~deepsad_pl.networks.lenet.LeNetEncoder`.

    >>> lenet_work({"filters": [8, 4], "dense": [32], "kernel_size": 5}, [1, 28, 28])
    Work(multiply_adds=319872, values=7088, width=32)

    Args:
        network: its settings.
        shape: (C, H, W) of the images.
    """
    channels, height, width = shape
    multiply_adds = values = 0
    for before, after in pairwise([channels, *network["filters"]]):
        put_out = after * height * width
        multiply_adds += before * network["kernel_size"] ** 2 * put_out
        values += put_out
        height, width = height // 2, width // 2
    dense = _dense([network["filters"][-1] * height * width, *network["dense"]])
    return Work(multiply_adds + dense.multiply_adds, values + dense.values, dense.width)


def _dense(widths: Sequence[int]) -> Work:
    return Work(sum(before * after for before, after in pairwise(widths)), sum(widths[1:]), widths[-1])
