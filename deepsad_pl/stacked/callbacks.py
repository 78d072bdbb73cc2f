"""Callbacks that record, check and save each replica while a stack is trained."""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch

from deepsad_pl.common.checkpoints import to_bytes
from deepsad_pl.common.files import write_atomic
from deepsad_pl.common.lightning_api import Callback, Checkpoint, LightningModule, Trainer
from deepsad_pl.stacked.module import StackedModule
from deepsad_pl.stacked.replica_loader import StackedLoader
from deepsad_pl.training.trainer import LossSink, loss_error, spread, warn_of_collapse, with_mean


@dataclass
class Replica:
    """One training in a stack.

    Attributes:
        path: path of its checkpoint.
        sink: receives its losses.
        batches: number of batches per epoch.
        speaking: context in which log messages go to this replica only.
        seconds: time that earlier attempts have taken.
        spread: spread of its representation before and after training.
        means: mean loss of each epoch.
        error: why it failed, or None.
    """

    path: Path
    sink: LossSink
    batches: int
    speaking: Callable[[], AbstractContextManager[None]] = nullcontext
    seconds: float = 0.0
    spread: dict[str, float] = field(default_factory=lambda: {"initial": math.nan, "final": math.nan})
    means: list[float] = field(default_factory=list)
    error: Exception | None = None


class ReplicaCallback(Callback):
    """Base of the callbacks, with access to the replicas.

    Args:
        phase: name of the training.
        replicas: replicas in the order of the stack.
    """

    def __init__(self, phase: str, replicas: Sequence[Replica]) -> None:
        self.phase, self.stack = phase, replicas


class ReplicaLosses(ReplicaCallback):
    """Passes on the losses of all replicas in one transfer per epoch; a replica with a non-finite loss fails.

    Attributes:
        last: mean loss of the last epoch over all replicas that have not failed.
    """

    last = math.nan

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fetch the epoch's losses."""
        assert isinstance(pl_module, StackedModule)
        steps = torch.zeros(len(pl_module.losses), len(self.stack), device=pl_module.device)
        for row, losses in zip(steps, pl_module.losses, strict=True):
            row[: len(losses)] = losses
        pl_module.losses.clear()
        means: list[float] = []
        for replica, column in zip(self.stack, steps.T.float().tolist(), strict=True):
            if replica.error is not None:
                continue
            values = column[: replica.batches]
            mean = sum(values) / len(values)
            if not math.isfinite(mean):
                replica.error = loss_error(self.phase, trainer.current_epoch, mean)
                continue
            means.append(mean)
            replica.means = with_mean(replica.means, trainer.current_epoch, mean)
            with replica.speaking():
                replica.sink.losses(self.phase, trainer.current_epoch, trainer.current_epoch * replica.batches, values)
        self.last = sum(means) / len(means) if means else math.nan
        if not means:
            trainer.should_stop = True


class ReplicaSpreads(ReplicaCallback):
    """Compares the spread of each representation before and after training, as for a single training."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure before the first step."""
        if trainer.current_epoch == 0:
            self._measure("initial", trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure after the last step."""
        if trainer.current_epoch + 1 != trainer.max_epochs:
            return
        assert isinstance(pl_module, StackedModule)
        pl_module.unstack()
        self._measure("final", trainer, pl_module)
        for replica in self.stack:
            if replica.error is None:
                with replica.speaking():
                    warn_of_collapse(self.phase, **replica.spread)

    def _measure(self, when: str, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, StackedModule)
        loaders = cast(StackedLoader, trainer.train_dataloader).loaders
        for replica, module, loader in zip(self.stack, pl_module.replicas, loaders, strict=True):
            if replica.error is None:
                replica.spread[when] = spread(module, loader)


class ReplicaCheckpoints(ReplicaCallback, Checkpoint):
    """Saves every replica at the end of an epoch, at most once per ``every_seconds``, but not after the last epoch.

    A replica's checkpoint is the same as Lightning would save if it were trained alone, so that any other stack or a
    single run can resume from it.

    Args:
        phase: name of the training.
        replicas: replicas in the order of the stack.
        every_seconds: minimum time between two checkpoints.
    """

    def __init__(self, phase: str, replicas: Sequence[Replica], every_seconds: float) -> None:
        super().__init__(phase, replicas)
        self.every_seconds = every_seconds
        self._start = self._saved = time.monotonic()

    @property
    def share(self) -> float:
        """Each replica's share of the time of this attempt, in seconds."""
        return (time.monotonic() - self._start) / len(self.stack)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if enough time has passed."""
        due = time.monotonic() - self._saved >= self.every_seconds
        if not due or trainer.current_epoch + 1 == trainer.max_epochs:
            return
        assert isinstance(pl_module, StackedModule)
        pl_module.unstack()
        for index, replica in enumerate(self.stack):
            if replica.error is not None:
                continue
            try:
                write_atomic(replica.path, to_bytes(self._checkpoint(trainer, pl_module, index)))
            except OSError as error:
                replica.error = error
        self._saved = time.monotonic()

    def _checkpoint(self, trainer: Trainer, stack: StackedModule, index: int) -> dict[str, Any]:
        replica, module = self.stack[index], stack.replicas[index]
        optimizer = module.configure_optimizers().state_dict()
        optimizer["state"] = stack.optimizer_state(index)
        epoch = trainer.current_epoch
        for group in optimizer["param_groups"]:
            group["lr"] = stack.rate(index)
        return {
            "epoch": epoch,
            "global_step": (epoch + 1) * replica.batches,
            "pytorch-lightning_version": version("pytorch-lightning"),
            "state_dict": module.state_dict(),
            "loops": {"fit_loop": _loop_of(trainer.fit_loop.state_dict(), replica.batches, epoch + 1)},
            "callbacks": {
                "EpochCheckpoint": {"seconds": replica.seconds + self.share},
                "CollapseCheck": dict(replica.spread),
                "LossRecorder": {"means": list(replica.means)},
            },
            "optimizer_states": [optimizer],
            "lr_schedulers": [],
            "hparams_name": "kwargs",
            "hyper_parameters": dict(module.hparams),
        }


def _loop_of(stack: Mapping[str, Any], batches: int, epochs: int) -> dict[str, Any]:
    """The state of the training loop that a single training would have after the finished epochs.

    Args:
        stack: state of the stack's loop, which uses manual optimization.
        batches: number of batches per epoch of the replica.
        epochs: number of finished epochs.
    """
    loop = copy.deepcopy(dict(stack))
    steps = {"total": batches * epochs, "current": batches}
    single = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    manual = loop["epoch_loop.manual_optimization.optim_step_progress"]
    for when, count in steps.items():
        for progress in (single["step"], single["zero_grad"], loop["epoch_loop.batch_progress"]):
            progress[when] = dict.fromkeys(progress[when], count)
        manual[when] = dict.fromkeys(manual[when], 0)
    loop["epoch_loop.state_dict"] = {"_batches_that_stepped": steps["total"]}
    return loop
