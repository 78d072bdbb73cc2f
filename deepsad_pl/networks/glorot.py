"""The initial weights of networks."""

from typing import Literal

from torch import nn


def glorot(network: nn.Module) -> nn.Module:
    """Draw the weights of all layers uniformly after Glorot and Bengio, set biases to 0, and return the network."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def initialize(network: nn.Module, initial_weights: Literal["glorot", "torch"]) -> None:
    """Draw the initial weights of a network whose layers have just been created.

    Args:
        network: the network.
        initial_weights: glorot: uniform with the variance 2 / (fan_in + fan_out) (appendix C). torch: those that
            PyTorch's layers are created with, uniform with the variance 1 / (3 fan_in).
    """
    if initial_weights == "glorot":
        glorot(network)
