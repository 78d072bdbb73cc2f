"""Score a test set or the calibration samples without a Trainer, whose start takes longer than most scoring."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from deepsad_pl.data.datamodule import AnomalyDataModule
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.training.device import device_of


@torch.no_grad()
def score_test_set(
    plan: Plan, module: TrainedMethod, data: AnomalyDataModule, *, calibration: bool = False
) -> tuple[Mapping[str, Tensor], torch.device]:
    """Compute the same result as ``trainer.test`` stores in ``module.test_result``.

    Args:
        plan: plan of the experiment, for its device and precision.
        module: the trained module; it is on the CPU afterwards.
        data: data whose test set is scored.
        calibration: whether to score the calibration samples in place of the test set.

    Returns:
        ``idx``, ``y`` and ``score`` of every sample, shape (n,) each, on the CPU; the device.
    """
    device = device_of(plan.trainer)
    module.to(device).eval()
    with precision_of(plan, device):
        loader = data.calibration_dataloader() if calibration else data.test_dataloader()
        parts = [(idx, y, module.checked_score(x.to(device))) for x, _, y, idx in loader]
    module.cpu()
    idx, y, score = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    return {"idx": idx, "y": y, "score": score}, device


def precision_of(plan: Plan, device: torch.device) -> AbstractContextManager[Any]:
    """The context in which a plan's precision holds on a device."""
    if plan.trainer["precision"] == "bf16-mixed":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
