"""The device of an experiment that runs in a single process."""

from collections.abc import Mapping
from typing import Any

import torch


def device_of(trainer: Mapping[str, Any]) -> torch.device:
    """The device that a single process computes on.

    Args:
        trainer: the trainer group of the configuration.
    """
    on_gpu = trainer["accelerator"] == "gpu" or (trainer["accelerator"] == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if on_gpu else "cpu")
