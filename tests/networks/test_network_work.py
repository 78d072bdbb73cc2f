"""The closed-form work of the package's networks, against what their layers compute."""

from math import prod
from typing import Any

import pytest
import torch
from torch import nn

from deepsad_pl.networks.description import build_encoder
from deepsad_pl.networks.network_work import Work, lenet_work, mlp_work


def counted(network: dict[str, Any], shape: list[int]) -> Work:
    """What the layers of phi do with one sample."""
    found = [0, 0]

    def count(layer: nn.Module, _: Any, out: torch.Tensor) -> None:
        assert isinstance(layer.weight, torch.Tensor)
        per_value = prod(layer.weight.shape[1:])
        found[0] += per_value * out[0].numel()
        found[1] += out[0].numel()

    encoder = build_encoder(
        {**network, ("in_shape" if len(shape) == 3 else "in_features"): shape if shape[1:] else shape[0]}
    )
    for layer in encoder.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    out = encoder.eval()(torch.zeros(1, *shape))
    return Work(found[0], found[1], out.shape[1])


@pytest.mark.parametrize(
    ("filters", "dense", "kernel_size", "shape"),
    [([8, 4], [32], 5, [1, 28, 28]), ([16, 32], [64, 32], 3, [1, 9, 8]), ([4, 8, 16], [10], 5, [3, 33, 32])],
)
def test_the_work_of_a_lenet(filters: list[int], dense: list[int], kernel_size: int, shape: list[int]) -> None:
    network = {"name": "lenet", "filters": filters, "dense": dense, "kernel_size": kernel_size}
    assert lenet_work(network, shape) == counted(network, shape)


@pytest.mark.parametrize(("units", "columns"), [([32, 16, 8], 21), ([5], 3)])
def test_the_work_of_an_mlp(units: list[int], columns: int) -> None:
    network = {"name": "mlp", "units": units}
    assert mlp_work(network, [columns]) == counted(network, [columns])
