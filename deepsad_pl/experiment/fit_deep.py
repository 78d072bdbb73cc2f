"""One training of an experiment: already finished, taken from the cache, resumed, or run from the start."""

import json
import logging
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from deepsad_pl.common.checkpoints import Checkpoint, DamagedError, to_bytes
from deepsad_pl.common.files import write_atomic
from deepsad_pl.common.process_state import random_states_kept
from deepsad_pl.common.ranks import is_main_process
from deepsad_pl.experiment.build import Phase, epochs_seed
from deepsad_pl.experiment.encoder_cache import Entry, locked_entry
from deepsad_pl.experiment.finished import CHECKPOINTS
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.tracking.tracker import Tracker
from deepsad_pl.training.compiling import compiled
from deepsad_pl.training.kept_memory import kept_memory
from deepsad_pl.training.restorable import is_finished, require_finished, usable
from deepsad_pl.training.slow_precision import warn_if_slow
from deepsad_pl.training.trainer import (
    CollapseCheck,
    EpochCheckpoint,
    LossRecorder,
    PhaseProgress,
    SeededEpochs,
    make_callbacks,
    make_trainer,
    require_finite_weights,
)
from deepsad_pl.training.trainer_arguments import has_arguments

log = logging.getLogger(__name__)

# In the checkpoint of a finished training: the mean loss of each epoch.
LOSSES = "losses"
CHECKPOINT_OF = {"pretrain": "pretrain.ckpt", "fit": "last.ckpt"}


def checkpoint_path(plan: Plan, phase: Phase) -> Path:
    """The path of a training's checkpoint, both during the training and once it is finished."""
    return plan.run_dir / CHECKPOINTS / CHECKPOINT_OF[phase.name]


@dataclass(frozen=True)
class Trained:
    """Outcome of a training.

    Attributes:
        seconds: time spent on it in this experiment.
        spread: spread of the representation before and after the training.
        reused: cache entry, seconds and settings of the reused training of another experiment, or None.
        epochs: number of epochs trained; None if unknown.
    """

    seconds: float
    spread: dict[str, float]
    reused: dict[str, Any] | None = None
    epochs: int | None = None


def fit_phase(plan: Plan, phase: Phase, tracker: Tracker) -> Trained:
    """Load a phase's trained state: from its finished checkpoint, from the cache, or by training it now."""
    finished = finished_before(plan, phase)
    if shares(plan, phase):
        assert plan.cache_dir is not None and phase.determined_by is not None
        with locked_entry(plan.cache_dir, phase.determined_by) as entry:
            finished = finished or load_cached(plan, phase, entry) or train(plan, phase, tracker)
            store_cached(plan, phase, entry, finished)
    elif finished is None:
        finished = train(plan, phase, tracker)
    return load_into_module(phase, finished)


def shares(plan: Plan, phase: Phase) -> bool:
    """Whether a training may be shared with other experiments through the cache."""
    return phase.determined_by is not None and plan.cache_dir is not None and plan.ranks == 1


def finished_before(plan: Plan, phase: Phase) -> Checkpoint | None:
    """The checkpoint of a finished training of this experiment, or None."""
    found = _found(plan, phase)
    if found is None or not is_finished(found):
        return None
    log.info("%s has already been trained: %s", phase.name, checkpoint_path(plan, phase))
    return found


def unfinished(plan: Plan, phase: Phase) -> Checkpoint | None:
    """The checkpoint from which a training can be resumed, or None."""
    found = _found(plan, phase)
    return None if found is None or is_finished(found) else found


def _found(plan: Plan, phase: Phase) -> Checkpoint | None:
    # A forced run deletes its old files, but another rank may look before rank 0 has done so.
    if plan.force:
        return None
    return usable(checkpoint_path(plan, phase), phase.module, main=is_main_process(plan.ranks))


def load_cached(plan: Plan, phase: Phase, entry: Entry) -> Checkpoint | None:
    """Load a finished training of another experiment from the cache and make it this one's; None if there is none."""
    assert phase.determined_by is not None
    what = json.dumps(phase.determined_by, sort_keys=True)

    def fits(found: Checkpoint) -> None:
        if found.get("determined_by") != what:
            raise DamagedError("it belongs to another training")
        require_finished(found, phase.module)

    if plan.force or (found := entry.load(fits)) is None:
        return None
    log.info("%s: reused the %s in %s", phase.name, phase.determined_by["training"]["name"], entry.path)
    return reuse(plan, phase, found, entry)


def reuse(plan: Plan, phase: Phase, found: Checkpoint, entry: Entry) -> Checkpoint:
    """Save another experiment's training as this one's, and return its checkpoint."""
    reused = {"entry": entry.path.stem, "seconds": found["seconds"], "trained_with": found["trained_with"]}
    finished = {**found, "seconds": 0.0, "reused": reused}
    write_finished(checkpoint_path(plan, phase), finished)
    return finished


def store_cached(plan: Plan, phase: Phase, entry: Entry, finished: Checkpoint) -> None:
    """Store a training in the cache; a forced run replaces the entry."""
    if plan.force or not entry.path.exists():
        trained = (finished["reused"] or finished)["seconds"]
        what = json.dumps(phase.determined_by, sort_keys=True)
        entry.store({**finished, "seconds": trained, "reused": None, "determined_by": what})


def load_into_module(phase: Phase, finished: Checkpoint) -> Trained:
    """Load a finished training into its module."""
    phase.module.load_state_dict(finished["state_dict"])
    last = finished.get("epoch")
    return Trained(finished["seconds"], finished["spread"], finished["reused"], None if last is None else last + 1)


def train(plan: Plan, phase: Phase, tracker: Tracker) -> Checkpoint:
    """Train a phase, resuming from its checkpoint if there is one, which the finished module then replaces."""
    path = checkpoint_path(plan, phase)
    if is_main_process(plan.ranks):
        path.parent.mkdir(exist_ok=True)
    checkpoint = EpochCheckpoint(path, plan.trainer["checkpoint_seconds"])
    own = make_callbacks(plan.trainer["callbacks"])
    recorder = LossRecorder(phase.name, tracker, log_too=has_arguments(plan.trainer))
    collapse = CollapseCheck(phase.name)
    seeded = SeededEpochs(epochs_seed(plan, phase))
    callbacks = [seeded, recorder, PhaseProgress(phase.name, recorder), collapse, *own, checkpoint]
    extra = plan.trainer["extra"]
    trainer = make_trainer(plan.trainer, plan.run_dir, sum(phase.module.epochs), callbacks, extra=extra)
    resumed = path if unfinished(plan, phase) is not None else None
    if resumed:
        log.info("%s resumes from %s", phase.name, path)
    device = trainer.strategy.root_device
    warn_if_slow(phase.name, plan.trainer["precision"], device)
    if plan.trainer["compile"]:
        log.info("%s: compiling the training step first, which can take a minute", phase.name)
    compiling = compiled(phase.module, device) if plan.trainer["compile"] else nullcontext()
    with random_states_kept(), kept_memory(), compiling:
        trainer.fit(phase.module, datamodule=phase.data, ckpt_path=resumed, weights_only=True)
    require_finite_weights(phase.name, phase.module)
    progress: Any = trainer.fit_loop.epoch_progress.current
    finished = {
        "state_dict": phase.module.state_dict(),
        "hyper_parameters": dict(phase.module.hparams),
        "pytorch-lightning_version": version("pytorch-lightning"),
        "epoch": progress.processed - 1,
        "seconds": checkpoint.seconds,
        "spread": {"initial": collapse.initial, "final": collapse.final},
        LOSSES: recorder.means,
        "trained_with": {
            "device": device.type,
            "threads": torch.get_num_threads(),
            "torch": version("torch"),
            **({"compile": True} if plan.trainer["compile"] else {}),
        },
        "reused": None,
    }
    if is_main_process(plan.ranks):
        write_finished(path, finished)
    return finished


def write_finished(path: Path, finished: Checkpoint) -> None:
    """Save a trained module for Lightning's ``load_from_checkpoint``, without the state that only training needs."""
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, to_bytes(finished))
