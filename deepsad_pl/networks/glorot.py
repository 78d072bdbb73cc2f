"""The initial weights of every network (appendix C)."""

from torch import nn


def glorot(network: nn.Module) -> nn.Module:
    """Draw the weights of all layers uniformly after Glorot and Bengio, set biases to 0, and return the network."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
