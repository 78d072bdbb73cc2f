"""Trainings that fail in the middle."""

from typing import Any

import pytest
from pytorch_lightning import Trainer


def broken_at(patch: pytest.MonkeyPatch, phase: str, epoch: int) -> None:
    from deepsad_pl.training.trainer import LossRecorder

    kept = LossRecorder.on_train_batch_end

    def fail(self: LossRecorder, trainer: Trainer, *rest: Any) -> None:
        if (self.phase, trainer.current_epoch) == (phase, epoch):
            raise RuntimeError("the power is out")
        kept(self, trainer, *rest)

    patch.setattr(LossRecorder, "on_train_batch_end", fail)
