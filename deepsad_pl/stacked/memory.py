"""How many replicas fit the memory of a device."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
import torch
from torch import nn

from deepsad_pl.networks.build import build_decoder, build_encoder

# An activation is kept for the gradient, normalized in a copy, and has a gradient itself.
_COPIES_OF_ACTIVATIONS = 4
# Weights, gradients, Adam's two averages, what is passed between them; the module's own.
_COPIES_OF_PARAMETERS = 7
_FLOAT_BYTES = 4
# What is left to everything else.
_SHARE = 0.5


def replica_bytes(network: Mapping[str, Any], shape: Sequence[int], *, batch_size: int, samples: int) -> int:
    """About how much memory one replica takes in the larger of its trainings, that of the autoencoder.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.build.build_encoder`.
        shape: of a sample.
        batch_size: of a step.
        samples: in the training set, kept as float32 at most.
    """
    with torch.device("meta"):
        networks = [build_encoder(network), build_decoder(network)]
        activations, x = 0, torch.empty(2, *shape)
        for part in networks:
            seen: list[int] = []
            for layer in part.modules():
                if not list(layer.children()):
                    layer.register_forward_hook(lambda _, __, out, seen=seen: seen.append(out[0].numel()))
            x = part(x)
            activations += sum(seen)
    parameters = sum(_numbers(part) for part in networks)
    data = samples * math.prod(shape)
    return _FLOAT_BYTES * (
        batch_size * activations * _COPIES_OF_ACTIVATIONS + parameters * _COPIES_OF_PARAMETERS + data
    )


def _numbers(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def free_bytes(device: str) -> int:
    """The memory that is free for replicas: a share of what nobody uses now.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
    return int(_SHARE * free)
