"""Make Lightning's Trainer, and the callbacks that record, save and display a training."""

import logging
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from deepsad_pl.common.checkpoints import to_bytes
from deepsad_pl.common.components import instantiate
from deepsad_pl.common.console import console, progress_columns
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import write_atomic
from deepsad_pl.common.lightning_api import Callback, Checkpoint, LightningModule, TorchCheckpointIO, Trainer
from deepsad_pl.common.process_state import LIGHTNING_LOGGERS, seed_all
from deepsad_pl.data.batch_loader import BatchLoader
from deepsad_pl.training.rank_processes import environment_of

log = logging.getLogger(__name__)

COLLAPSE_RATIO = 1e-4
# The configuration group that holds the settings of a phase.
GROUPS = {"pretrain": "pretrain", "fit": "method"}
_SPREAD_SAMPLES = 2000


class LossSink(Protocol):
    """Receives the losses of a training, epoch by epoch."""

    def losses(self, phase: str, epoch: int, first_step: int, values: Sequence[float]) -> None:
        """Receive the loss of each step of an epoch."""


def loss_error(phase: str, epoch: int, loss: float) -> DeepSADError:
    """Make the error for a loss that is not finite."""
    return DeepSADError(
        f"the {phase} loss is {loss} in epoch {epoch}; lower {GROUPS[phase]}.lr or look for extreme values in the data"
    )


def with_mean(means: Sequence[float], epoch: int, mean: float) -> list[float]:
    """The mean losses of the epochs up to this one; NaN for earlier epochs that are not known.

    Args:
        means: those of earlier epochs, from epoch 0; there are too few if the training was begun by an earlier release.
        epoch: number of the epoch, from 0.
        mean: its mean loss.
    """
    return [*means[:epoch], *([math.nan] * (epoch - len(means))), mean]


def require_finite_weights(phase: str, module: LightningModule) -> None:
    """Check that all parameters are finite after the last step, whose effect no loss shows.

    Raises:
        DeepSADError: if a parameter is not finite.
    """
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            raise DeepSADError(
                f"after the last step of {phase} the parameter {name} is not finite; lower {GROUPS[phase]}.lr or look "
                "for extreme values in the data"
            )


class LossRecorder(Callback):
    """Passes on the losses of all steps once per epoch, so the training loop never waits for the device.

    Args:
        phase: name of the training, for messages and the sink.
        sink: receives the losses, in the main process only.
        log_too: whether the module also logs its loss as ``train_loss``, for callbacks that read it.

    Attributes:
        means: mean loss of each epoch, kept over restarts.

    Raises:
        DeepSADError: at the end of an epoch in which a loss was not finite.
    """

    def __init__(self, phase: str, sink: LossSink, *, log_too: bool = False) -> None:
        self.phase, self.sink = phase, sink
        # The module reads this and then does not log its loss, which would cost 0.1 to 0.3 ms per step.
        self.records_losses = not log_too
        self.last = math.nan
        self.means: list[float] = []
        self._losses: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """The mean losses so far."""
        return {"means": list(self.means)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the mean losses."""
        self.means = list(state_dict["means"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Store the loss, on its device."""
        self._losses.append(outputs["loss"].detach())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fetch the epoch's losses in one transfer."""
        losses = torch.stack(self._losses)
        self._losses.clear()
        if trainer.world_size > 1:
            # A rank's loss is its share of the global loss times world size, so the mean over ranks is the global loss.
            losses = trainer.strategy.reduce(losses, reduce_op="mean")
        values = losses.float().tolist()
        self.last = sum(values) / len(values)
        if not math.isfinite(self.last):
            raise loss_error(self.phase, trainer.current_epoch, self.last)
        self.means = with_mean(self.means, trainer.current_epoch, self.last)
        if trainer.is_global_zero:
            # Not global_step, which counts optimizer steps: these are fewer if gradients are accumulated.
            first_step = trainer.current_epoch * int(trainer.num_training_batches)
            self.sink.losses(self.phase, trainer.current_epoch, first_step, values)


class EpochCheckpoint(Checkpoint):
    """Saves a checkpoint at the end of an epoch, at most once in ``every_seconds``, and always after the last epoch.

    The checkpoint includes the seconds of the training over all restarts, and whether it was stopped early, in which
    case a restart trains no further epoch.

    Args:
        path: path of the checkpoint, which is replaced atomically.
        every_seconds: minimum time between two checkpoints.
    """

    def __init__(self, path: Path, every_seconds: float) -> None:
        self.path, self.every_seconds = path, every_seconds
        self._before, self._stops = 0.0, False
        self._start = self._saved = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds spent on this training so far, over all restarts."""
        return self._before + time.monotonic() - self._start

    def state_dict(self) -> dict[str, Any]:
        """The seconds so far, and whether the training stops early."""
        return {"seconds": self.seconds, **({"stops": True} if self._stops else {})}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the seconds and the early stop."""
        self._before, self._stops = state_dict["seconds"], state_dict.get("stops", False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop again if the training was stopped early before the restart."""
        if self._stops:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if a checkpoint is due."""
        due = time.monotonic() - self._saved >= self.every_seconds
        due = trainer.strategy.broadcast(due)  # clocks of ranks differ
        self._stops = trainer.should_stop
        if not due and not self._stops and trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            return
        trainer.save_checkpoint(self.path)
        self._saved = time.monotonic()


class SealedCheckpoints(TorchCheckpointIO):
    """Writes Lightning's checkpoints atomically, with a checksum; the temporary file lies beside the checkpoint."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the checkpoint, which replaces an earlier one."""
        write_atomic(Path(path), to_bytes(checkpoint))


class KnowsLoss(Protocol):
    """An object that knows the loss of the last epoch."""

    last: float


class PhaseProgress(Callback):
    """A progress bar over the epochs of a training, or over the batches of a test.

    Args:
        phase: name of the training or test.
        recorder: knows the loss of the last epoch; None for a test.
    """

    _EVERY_S = 0.1

    def __init__(self, phase: str, recorder: KnowsLoss | None = None) -> None:
        self.phase, self.recorder = phase, recorder
        self._progress: Progress | None = None
        self._drawn = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar at the epoch from which the training starts or resumes."""
        self._open(trainer, "epochs", trainer.max_epochs or 0, trainer.current_epoch)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        self._open(trainer, "batches", int(sum(trainer.num_test_batches)), 0)

    def _open(self, trainer: Trainer, unit: str, total: int, completed: int) -> None:
        if not trainer.is_global_zero:
            return
        columns = progress_columns(
            console,
            TextColumn("{task.description:<9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit + "  {task.fields[loss]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(
            *columns,
            console=console,
            disable=console.quiet,
        )
        self._task = self._progress.add_task(self.phase, total=total, completed=completed, loss="")
        self._progress.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar within a long epoch."""
        self._move(trainer.current_epoch + (batch_idx + 1) / trainer.num_training_batches)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the bar and show the loss."""
        last = trainer.current_epoch + 1 == trainer.max_epochs
        loss = "" if self.recorder is None else f"loss {self.recorder.last:.4g}"
        self._move(trainer.current_epoch + 1, loss, now=last)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move the bar."""
        self._move(batch_idx + 1, now=batch_idx + 1 == sum(trainer.num_test_batches))

    def _move(self, completed: float, loss: str | None = None, now: bool = False) -> None:
        if self._progress is None or (not now and time.monotonic() - self._drawn < self._EVERY_S):
            return
        self._drawn = time.monotonic()
        self._progress.update(self._task, completed=int(completed))
        if loss is not None:
            self._progress.update(self._task, loss=loss)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar, which restores the terminal."""
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


@torch.no_grad()
def spread(module: LightningModule, loader: Any) -> float:
    """The standard deviation of the representation around its mean, over the first 2,000 or so training samples.

    Args:
        module: has ``represent``.
        loader: yields ``(x, ...)``.

    Returns:
        The square root of the summed variances of the coordinates, >= 0.
    """
    training = module.training
    module.eval()
    seen: list[Tensor] = []
    for x, *_ in loader.samples() if isinstance(loader, BatchLoader) else loader:
        seen.append(module.represent(x).cpu().double())  # type: ignore[operator]
        if sum(map(len, seen)) >= _SPREAD_SAMPLES:
            break
    module.train(training)
    return float(torch.cat(seen).var(dim=0, correction=0).sum().sqrt())


class SeededEpochs(Callback):
    """Seeds the global random streams before each epoch, from which dropout and the code of users may draw.

    So a training can be repeated, and one that resumes at an epoch draws what an uninterrupted one does.

    Args:
        seed: seed of the training, >= 0.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Seed what is drawn before the first epoch."""
        self._start(trainer, -1)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed what is drawn in this epoch."""
        self._start(trainer, trainer.current_epoch)

    def _start(self, trainer: Trainer, epoch: int) -> None:
        # SeedSequence ignores trailing zeros.
        words = [self.seed, epoch + 1, trainer.global_rank + 1]
        seed_all(int(np.random.SeedSequence(words).generate_state(1, np.uint32)[0]))


class CollapseCheck(Callback):
    """Warns if the representation has collapsed: compares its spread after training with that before (appendix A).

    Args:
        phase: name of the training, for the message.

    Attributes:
        initial: the spread before the first step, kept over restarts.
        final: the spread after the last step.
    """

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.initial = math.nan
        self.final = math.nan

    def state_dict(self) -> dict[str, Any]:
        """The initial and the final spread."""
        return {"initial": self.initial, "final": self.final}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both spreads."""
        self.initial, self.final = state_dict["initial"], state_dict["final"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure before the first step."""
        if trainer.global_step == 0:
            self.initial = spread(pl_module, trainer.train_dataloader)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure after the last step, before the last checkpoint is written."""
        if trainer.current_epoch + 1 == trainer.max_epochs:
            self._measure(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure after an early stop, when :meth:`on_train_epoch_end` did not know that the epoch was the last one."""
        if math.isnan(self.final):
            self._measure(trainer, pl_module)

    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.final = spread(pl_module, trainer.train_dataloader)
        if trainer.is_global_zero:
            warn_of_collapse(self.phase, self.initial, self.final)


def has_collapsed(initial: float, final: float) -> bool:
    """Whether the spread has fallen to next to nothing: at most ``COLLAPSE_RATIO`` times the initial one."""
    return final <= COLLAPSE_RATIO * initial


def warn_of_collapse(phase: str, initial: float, final: float) -> None:
    """Log a warning if the representation has collapsed in a training."""
    if not has_collapsed(initial, final):
        return
    log.warning(
        "the representation has collapsed in %s: its spread over the training data fell from %.3g to %.3g, so "
        "nearly all samples are mapped to one point and scores say little; lower %s.lr, train for fewer "
        "epochs, use pretrain=autoencoder or add labeled anomalies",
        *(phase, initial, final, GROUPS[phase]),
    )


def quiet_lightning() -> None:
    """Hide Lightning's log messages below the level ERROR, its warnings, and a few others that do not help users."""
    for name in LIGHTNING_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric|lightning|torchmetrics)\b.*")
    warnings.filterwarnings(
        "ignore", message=r".*(srun|litlogger|litmodels|`weights_only`|isinstance\(treespec|batching rule).*"
    )


def make_callbacks(nodes: Sequence[Mapping[str, Any]]) -> list[Callback]:
    """Make the callbacks of ``trainer.callbacks``; each training needs new ones.

    Args:
        nodes: mappings with ``_target_`` and arguments.

    Raises:
        DeepSADError: if one cannot be instantiated, or is no callback of the Lightning package in use.
    """
    made: list[Callback] = []
    for number, node in enumerate(nodes):
        key = f"trainer.callbacks[{number}]"
        callback = instantiate(node, key)
        if not isinstance(callback, Callback):
            raise DeepSADError(
                f"{key}._target_ is {node['_target_']}, which creates a {type(callback).__name__}; use a class derived "
                f"from {Callback.__module__.partition('.callbacks')[0]}.Callback"
            )
        made.append(callback)
    return made


def make_trainer(
    settings: Mapping[str, Any],
    run_dir: Path,
    max_epochs: int,
    callbacks: Sequence[Callback],
    *,
    extra: Mapping[str, Any] | None = None,
) -> Trainer:
    """Make a Trainer from the trainer settings; it prints nothing and has no logger.

    Args:
        settings: the trainer group of the configuration.
        run_dir: folder for any files that Lightning writes by default.
        max_epochs: number of epochs of this training.
        callbacks: callbacks of the Trainer; without a Checkpoint among them nothing is saved.
        extra: further arguments of the Trainer.

    Raises:
        DeepSADError: if Lightning rejects the extra arguments or callbacks.
    """
    quiet_lightning()
    ranks = settings["devices"] * settings["num_nodes"]
    arguments: dict[str, Any] = {
        **{key: settings[key] for key in ("accelerator", "devices", "num_nodes", "strategy", "precision")},
        "max_epochs": max_epochs,
        "callbacks": list(callbacks),
        "default_root_dir": run_dir,
        "logger": False,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "plugins": [SealedCheckpoints(), *filter(None, [environment_of(ranks)])],
    }
    try:
        trainer = Trainer(**arguments, **(extra or {}))
    except Exception as error:
        # Lightning raises nearly any type of error for a value that it rejects.
        own = settings.get("callbacks", ())
        if not (extra or own):
            raise
        given = f"trainer.extra={dict(extra or {})} with {len(own)} of trainer.callbacks"
        raise DeepSADError(
            f"Lightning's Trainer does not accept {given} ({error}); change or leave out some"
        ) from error
    if ranks > 1:
        # Its SIGTERM handler broadcasts: a collective amid those of a step, which makes the ranks wait for ever.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer
