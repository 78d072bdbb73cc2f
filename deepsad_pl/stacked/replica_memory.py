"""Estimate how much memory replicas need, and how much is free on the device."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from deepsad_pl.networks.description import build_decoder, build_encoder, has_decoder

# Copies per activation: it is kept for the gradient, copied when normalized, and has a gradient itself.
_COPIES_OF_ACTIVATIONS = 4
# Copies per parameter: weights, gradients, Adam's two averages, temporaries, and the module's own copy.
_COPIES_OF_PARAMETERS = 7
_FLOAT_BYTES = 4
# Copies of the data: each replica's own, and the stacked data.
_COPIES_OF_DATA = 2
# The share of the free memory that replicas may use.
_SHARE = 0.5


def replica_bytes(network: Mapping[str, Any], shape: Sequence[int], *, batch_size: int, data: int) -> int:
    """Estimate the memory of a replica in its largest training, which is an autoencoder's if phi has a decoder.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`.
        shape: shape of a sample.
        batch_size: batch size of a step.
        data: size of the training set in bytes.
    """
    with torch.device("meta"):
        networks = [build_encoder(network), *([build_decoder(network)] if has_decoder(network) else [])]
        activations, x = 0, torch.empty(2, *shape)
        for part in networks:
            seen: list[int] = []
            for layer in part.modules():
                if not list(layer.children()):
                    layer.register_forward_hook(lambda *of, seen=seen: seen.append(_kept(*of)))
            x = part(x)
            activations += sum(seen)
    parameters = sum(_numbers(part) for part in networks)
    numbers = batch_size * activations * _COPIES_OF_ACTIVATIONS + parameters * _COPIES_OF_PARAMETERS
    return _FLOAT_BYTES * numbers + _COPIES_OF_DATA * data


def _kept(layer: nn.Module, inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> int:
    """The activations of a sample that a layer adds; a stack applies the leaky ReLU after a max-pooling before it."""
    return (inputs[0] if isinstance(layer, nn.MaxPool2d) else out)[0].numel()


def _numbers(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def free_bytes(device: str) -> int:
    """The memory available for replicas in bytes: a share of the free memory, within the limits of this process.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    if device == "cuda":
        return int(_SHARE * torch.cuda.mem_get_info()[0])
    return int(_SHARE * min(psutil.virtual_memory().available, *_left_in_groups()))


def _left_in_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """The memory left under the limits of this process's control groups, which containers and SLURM jobs set.

    Args:
        root: mount point of the control groups.
        own: file that lists this process's control groups, one per line: ``number:controllers:path``.
    """
    left = [2**63]
    for line in own.read_text().splitlines() if own.exists() else []:
        _, controllers, name = line.split(":", 2)
        if controllers == "memory":
            top, limit, usage = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        elif not controllers:
            top, limit, usage = root, "memory.max", "memory.current"
        else:
            continue
        group = top / name.lstrip("/")
        # The limits of all parent groups apply. In a container, the path in ``own`` may be the host's.
        for folder in (group, *group.parents):
            if not folder.is_relative_to(top):
                break
            with suppress(OSError, ValueError):  # "max"
                left.append(max(0, int((folder / limit).read_text()) - int((folder / usage).read_text())))
    return left
