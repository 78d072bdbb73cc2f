"""Train one phase of many experiments as a stack, with the same results as if each were trained alone."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from deepsad_pl.common.checkpoints import Checkpoint
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.lightning_api import Callback, LightningDataModule
from deepsad_pl.experiment.build import Phase
from deepsad_pl.experiment.fit_deep import LOSSES
from deepsad_pl.stacked.callbacks import Replica, ReplicaCheckpoints, ReplicaLosses, ReplicaSpreads
from deepsad_pl.stacked.module import StackedModule, joined_state
from deepsad_pl.stacked.replica_loader import StackedLoader
from deepsad_pl.stacked.stack_progress import StackWatch
from deepsad_pl.training.kept_memory import kept_memory
from deepsad_pl.training.slow_precision import warn_if_slow
from deepsad_pl.training.trainer import LossSink, PhaseProgress, make_trainer, require_finite_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """A training of an experiment, to be run in a stack.

    Attributes:
        phase: the module and its data.
        path: path of its checkpoint.
        sink: receives its losses.
        resumed: the checkpoint from which it is resumed, or None.
        speaking: context in which log messages go to this training only.
    """

    phase: Phase
    path: Path
    sink: LossSink
    resumed: Checkpoint | None = None
    speaking: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def epoch(self) -> int:
        """The epoch at which it starts or resumes; the same for all trainings of a stack."""
        return 0 if self.resumed is None else int(self.resumed["epoch"]) + 1


class _StackedData(LightningDataModule):
    """The training sets of the replicas."""

    def __init__(self, phases: Sequence[Phase]) -> None:
        super().__init__()
        self._phases = phases

    def train_dataloader(self) -> StackedLoader:
        """The stacked loader, on the device of the Trainer."""
        for phase in self._phases:
            phase.data.trainer = self.trainer
        return StackedLoader([phase.data.train_dataloader() for phase in self._phases])


def train_stack(
    trainings: Sequence[Training],
    settings: Mapping[str, Any],
    folder: Path,
    *,
    watch: Path | None = None,
) -> list[Checkpoint | Exception]:
    """Train modules of one kind as a stack, each as it would be trained alone.

    Args:
        trainings: trainings with modules of one kind and equal numbers of epochs, all at the same epoch.
        settings: the trainer group of the configuration.
        folder: root folder of the Trainer, for stray files.
        watch: folder for this process's progress file; None: write no progress file.

    Returns:
        For each training, the checkpoint with which a single training ends (see
        :func:`~deepsad_pl.experiment.fit_deep.fit_phase`), or the exception it failed with. Only intermediate
        checkpoints are written to disk.

    Raises:
        NotVectorizedError: if the loss cannot be computed for several modules at once.
    """
    # Replicas with fewer batches drop out of an epoch's last steps, so they must come last.
    order = sorted(range(len(trainings)), key=lambda index: -trainings[index].phase.data.batches)
    ordered = [trainings[index] for index in order]
    results = dict(zip(order, _train(ordered, settings, folder, watch), strict=True))
    return [results[index] for index in range(len(trainings))]


def _train(
    trainings: Sequence[Training],
    settings: Mapping[str, Any],
    folder: Path,
    watch: Path | None,
) -> list[Checkpoint | Exception]:
    modules = [training.phase.module for training in trainings]
    epochs, phase = sum(modules[0].epochs), trainings[0].phase.name
    replicas = [
        Replica(training.path, training.sink, training.phase.data.batches, training.speaking) for training in trainings
    ]
    for training, replica in zip(trainings, replicas, strict=True):
        training.path.parent.mkdir(exist_ok=True)
        if training.resumed is not None:
            with training.speaking():
                log.info("%s resumes from %s", phase, training.path)
            training.phase.module.load_state_dict(training.resumed["state_dict"])
            replica.seconds = training.resumed["callbacks"]["EpochCheckpoint"]["seconds"]
            replica.spread = dict(training.resumed["callbacks"]["CollapseCheck"])
            # The checkpoints of earlier releases have no losses.
            replica.means = list(training.resumed["callbacks"].get("LossRecorder", {}).get("means", ()))

    losses = ReplicaLosses(phase, replicas)
    checkpoints = ReplicaCheckpoints(phase, replicas, settings["checkpoint_seconds"])
    callbacks: list[Callback] = [losses, PhaseProgress(phase, losses), ReplicaSpreads(phase, replicas), checkpoints]
    if watch is not None:
        callbacks.append(StackWatch(watch, phase, len(trainings)))
    trainer = make_trainer(settings, folder, epochs, callbacks)
    warn_if_slow(phase, settings["precision"], trainer.strategy.root_device)
    data = _StackedData([training.phase for training in trainings])
    stack = StackedModule(modules)
    if trainings[0].epoch:
        states = [training.resumed["optimizer_states"][0]["state"] for training in trainings]  # type: ignore[index]
        stack.resume([joined_state(state, module) for state, module in zip(states, modules, strict=True)])
        progress = trainer.fit_loop.epoch_progress.current
        progress.load_state_dict(dict.fromkeys(progress.state_dict(), trainings[0].epoch))
    with kept_memory():
        trainer.fit(stack, datamodule=data)

    for training, replica in zip(trainings, replicas, strict=True):
        # On the CPU, as Lightning leaves a single module, to free the device for the next stack.
        training.phase.module.cpu()
        training.phase.data.trainer = None
        try:
            require_finite_weights(phase, training.phase.module)
        except DeepSADError as error:
            replica.error = replica.error or error
    trained_with = {
        "device": trainer.strategy.root_device.type,
        "threads": torch.get_num_threads(),
        "torch": version("torch"),
        "replicas": len(trainings),
    }
    return [
        replica.error
        or {
            "state_dict": module.state_dict(),
            "hyper_parameters": dict(module.hparams),
            "pytorch-lightning_version": version("pytorch-lightning"),
            "epoch": epochs - 1,
            "seconds": replica.seconds + checkpoints.share,
            "spread": dict(replica.spread),
            LOSSES: list(replica.means),
            "trained_with": dict(trained_with),
            "reused": None,
        }
        for replica, module in zip(replicas, modules, strict=True)
    ]
