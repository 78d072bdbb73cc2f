"""Where a single process computes."""

from collections.abc import Mapping
from typing import Any

import torch


def device_of(trainer: Mapping[str, Any]) -> torch.device:
    """Where a single process computes.

    Args:
        trainer: that group of the configuration.
    """
    on_gpu = trainer["accelerator"] == "gpu" or (trainer["accelerator"] == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if on_gpu else "cpu")
