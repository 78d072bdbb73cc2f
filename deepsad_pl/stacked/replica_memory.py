"""Where replicas are trained, and how many of them fit the memory there."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from deepsad_pl.networks.description import build_decoder, build_encoder, has_decoder

# An activation is kept for the gradient, normalized in a copy, and has a gradient itself.
_COPIES_OF_ACTIVATIONS = 4
# Weights, gradients, Adam's two averages, what is passed between them; the module's own.
_COPIES_OF_PARAMETERS = 7
_FLOAT_BYTES = 4
# The data of a replica are brought together with those of all others.
_COPIES_OF_DATA = 2
# What is left to everything else.
_SHARE = 0.5


def replica_bytes(network: Mapping[str, Any], shape: Sequence[int], *, batch_size: int, data: int) -> int:
    """About how much memory one replica takes in the larger of its trainings: of an autoencoder, if phi has a decoder.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`.
        shape: of a sample.
        batch_size: of a step.
        data: bytes of the training set.
    """
    with torch.device("meta"):
        networks = [build_encoder(network), *([build_decoder(network)] if has_decoder(network) else [])]
        activations, x = 0, torch.empty(2, *shape)
        for part in networks:
            seen: list[int] = []
            for layer in part.modules():
                if not list(layer.children()):
                    layer.register_forward_hook(lambda _, __, out, seen=seen: seen.append(out[0].numel()))
            x = part(x)
            activations += sum(seen)
    parameters = sum(_numbers(part) for part in networks)
    numbers = batch_size * activations * _COPIES_OF_ACTIVATIONS + parameters * _COPIES_OF_PARAMETERS
    return _FLOAT_BYTES * numbers + _COPIES_OF_DATA * data


def _numbers(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def free_bytes(device: str) -> int:
    """The memory that is free for replicas: a share of what nobody uses now and this process may have.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    if device == "cuda":
        return int(_SHARE * torch.cuda.mem_get_info()[0])
    return int(_SHARE * min(psutil.virtual_memory().available, *_left_in_groups()))


def _left_in_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """What the limits of the control groups leave that a container or a job of SLURM puts this process into.

    Args:
        root: where they are mounted.
        own: names those of this process, a line each: ``number:controllers:path``.
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
        # A limit of any group around it counts. In a container the own path may be that of the host.
        for folder in (group, *group.parents):
            if not folder.is_relative_to(top):
                break
            with suppress(OSError, ValueError):  # "max"
                left.append(max(0, int((folder / limit).read_text()) - int((folder / usage).read_text())))
    return left
