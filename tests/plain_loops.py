"""Trainings as plain PyTorch loops, which the modules are compared with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from planned import plan_of
from pytorch_lightning import Callback, LightningModule
from torch import Tensor

from deepsad_pl.data.datamodule import AnomalyDataModule
from deepsad_pl.data.sources import Source
from deepsad_pl.experiment.build import Phase, build
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.training.trainer import LossRecorder, make_trainer

# 112 rows in batches of 25 give 5 batches: 20 steps in 4 epochs.
SHORT = (
    "scenario.gamma_n=0.1",
    "scenario.gamma_p=0.05",
    "method.batch_size=26",
    "pretrain.batch_size=26",
    "method.epochs=[2,2]",
    "pretrain.epochs=[2,2]",
)


def phases_of(plan: Plan, source: Source) -> list[Phase]:
    return build(plan, source).phases


class Sink:
    def __init__(self) -> None:
        self.values: list[float] = []

    def losses(self, phase: str, epoch: int, first_step: int, values: Any) -> None:
        self.values += values


def fit(module: LightningModule, data: AnomalyDataModule, path: Path, epochs: int = 4, *extra: Callback) -> list[float]:
    sink = Sink()
    settings = plan_of("trainer=cpu").trainer
    make_trainer(settings, path, epochs, [LossRecorder("fit", sink), *extra]).fit(module, datamodule=data)
    return sink.values


def plain_adam(parameters: list[Tensor], lr: float, weight_decay: float) -> Callable[[float], None]:
    """Adam as in its paper (betas .9, .999, eps 1e-8) on the L2-regularized gradient, without torch.optim."""
    m, v = [torch.zeros_like(p) for p in parameters], [torch.zeros_like(p) for p in parameters]
    t = 0

    def step(rate: float) -> None:
        nonlocal t
        t += 1
        with torch.no_grad():
            for p, m_, v_ in zip(parameters, m, v, strict=True):
                assert p.grad is not None
                g = p.grad + weight_decay * p
                m_.mul_(0.9).add_(g, alpha=0.1)
                v_.mul_(0.999).addcmul_(g, g, value=0.001)
                p -= rate * (m_ / (1 - 0.9**t)) / ((v_ / (1 - 0.999**t)).sqrt() + 1e-8)
                p.grad = None

    return step


def plain_loop(module: TrainedMethod, data: AnomalyDataModule, loss: Callable[[Tensor, Tensor], Tensor]) -> list[float]:
    step = plain_adam(list(module.parameters()), module.lr[0], module.weight_decay)
    loader, losses = data.train_dataloader(), []
    module.train()
    for epoch in range(sum(module.epochs)):
        loader.set_epoch(epoch)
        for x, semi_y, _, _ in loader:
            value = loss(x, semi_y)
            value.backward()
            step(module.lr[0] if epoch < module.epochs[0] else module.lr[1])
            losses.append(value.item())
    return losses
