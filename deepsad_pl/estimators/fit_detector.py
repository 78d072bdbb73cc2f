"""Train a detector as ``train.py`` does, but from arrays, and without a run folder, a cache or a logger."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import RLock
from typing import Any

import numpy.typing as npt
import torch

from deepsad_pl.common.calibration_scores import write_calibration
from deepsad_pl.common.console import silent
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.compose.composer import Composer
from deepsad_pl.compose.composer_at import composer_at
from deepsad_pl.data.sources import Source
from deepsad_pl.detector.detector import Detector
from deepsad_pl.detector.detector_folder import DETECTOR
from deepsad_pl.experiment.build import Parts, build
from deepsad_pl.experiment.calibrated import threshold_entry
from deepsad_pl.experiment.finished import CHECKPOINTS
from deepsad_pl.experiment.fit_deep import fit_phase
from deepsad_pl.experiment.keep_detector import keep_detector
from deepsad_pl.experiment.plan import Plan, make_plan, units_for
from deepsad_pl.experiment.run import what_was_done
from deepsad_pl.experiment.scoring import score_test_set
from deepsad_pl.tracking.tracker import NoTracker

# Stands in for a path, since the samples are in memory.
_NOWHERE = "in_memory"
# What overrides may set; other settings belong to the estimator, or have no effect without a run folder.
_OPEN = ("method", "pretrain", "recipe", "trainer", "threshold", "network", "dataset.network")
_OPEN_ALONE = ("recipe", "network", "dataset.scaling", "dataset.id", "dataset.drop")

# Held while settings are composed and a detector is trained, because threads share Hydra's state and torch's global
# generator, from which initial weights are drawn.
one_at_a_time = RLock()


@cache
def composer() -> Composer:
    """The composer of this process."""
    return composer_at()


def rows_words() -> list[str]:
    """The overrides for labeled rows."""
    return ["dataset=table", f"dataset.path={_NOWHERE}", "logger=none"]


def image_words(shape: Sequence[int]) -> list[str]:
    """The overrides for labeled images of shape (C, H, W)."""
    channels, height, width = shape
    size = f"dataset.image_size=[{height},{width}]"
    return ["dataset=image_folder", f"dataset.root={_NOWHERE}", size, f"dataset.channels={channels}", *_GIVEN]


_GIVEN = ("scenario=given", "logger=none")


def require_open(overrides: Sequence[str]) -> None:
    """Raise an error if overrides change settings that are fixed in an estimator.

    Raises:
        DeepSADError: with a sentence for each of them.
    """
    problems = []
    for override in composer().parse(overrides):
        key, line = override.key_or_group, override.input_line
        if override.is_sweep_override():
            problems.append(f"overrides has {line}, which sweeps over several values; give one value")
        elif key not in _OPEN_ALONE and not key.startswith(tuple(f"{group}." for group in _OPEN)):
            problems.append(
                f"overrides has {line}, but {key} is not among the settings that it may change: those of "
                f"{', '.join(_OPEN)}, and {', '.join(_OPEN_ALONE)}; leave it out, or use the parameter of that name"
            )
    if problems:
        raise DeepSADError(*problems)


def settings_of(words: Sequence[str], columns: int | None) -> dict[str, Any]:
    """The settings of an experiment on samples in memory.

    Args:
        words: overrides, beginning with those of :func:`rows_words` or :func:`image_words`.
        columns: number of columns of the rows before they are encoded; None for images.

    Raises:
        DeepSADError: if a setting does not exist or has a value of the wrong type.
    """
    settings = composer().settings(words)
    # What the data set declares about its files does not hold for samples in memory.
    about = {"inputs": settings["dataset"]["about"]["inputs"]}
    dataset = {**settings["dataset"], "about": about}
    network = settings["network"] or dataset["network"]
    if columns is not None and "units" in network and network["units"] is None:
        dataset["network"] = {**network, "units": units_for(columns)}
        settings = {**settings, "network": {}}
    return {**settings, "dataset": dataset}


def fit_detector(settings: Mapping[str, Any], source: Source) -> Detector:
    """Train on all samples of a source; the caller must hold ``one_at_a_time``.

    Args:
        settings: see :func:`settings_of`.
        source: training samples with semi-labels; its test samples are not used.

    Returns:
        The detector, on the CPU.

    Raises:
        DeepSADError: with every problem of the settings, before any work; or if the data do not suit them.
    """
    plan = make_plan(settings)
    if plan.ranks > 1:
        raise DeepSADError(
            f"trainer.devices is {plan.trainer['devices']}, but an estimator trains in one process; use 1"
        )
    with TemporaryDirectory(prefix="deepsad_pl-") as scratch, silent(), _threads_of(plan):
        plan = replace(plan, run_dir=Path(scratch), cache_dir=None)
        parts = build(plan, source)
        for before, phase in zip([None, *parts.phases], parts.phases, strict=False):
            if before is not None:
                phase.module.start_from(before.module)
            fit_phase(plan, phase, NoTracker())
        scores, semi_y = _calibration(plan, parts), parts.data.calibration_semi_y
        write_calibration(plan.run_dir, scores, semi_y)
        entry = threshold_entry(plan.threshold, scores, semi_y, [], [])
        plan = replace(plan, identity={**plan.identity, "samples": _digest(parts)})
        keep_detector(plan, parts, {**what_was_done(plan), "threshold": entry})
        return Detector.read(plan.run_dir / DETECTOR)


def _calibration(plan: Plan, parts: Parts) -> npt.NDArray[Any]:
    """The scores of the calibration samples, shape (n,); a shallow method is fitted first."""
    if not plan.about.shallow:
        calibrated, _ = score_test_set(plan, parts.phases[-1].module, parts.data, calibration=True)
        return calibrated["score"].numpy()
    # Imported here because it loads scikit-learn and scipy.optimize, which only shallow methods need.
    from deepsad_pl.experiment.fit_shallow import calibration_scores, fit_shallow

    encoder = parts.phases[0].module if plan.method.features == "bottleneck" else None
    fitted, _ = fit_shallow(plan, parts.data, encoder, plan.run_dir / CHECKPOINTS)
    scores = calibration_scores(plan, parts.data, encoder, fitted.model)
    assert scores is not None
    return scores


def _digest(parts: Parts) -> str:
    """A hash of the training samples and their labels."""
    return sha256(parts.data.digest().encode() + parts.data.semi_y.tobytes()).hexdigest()


@contextmanager
def _threads_of(plan: Plan) -> Iterator[None]:
    """Use the plan's number of CPU threads, if it has one, and restore them at the end."""
    before, wanted = torch.get_num_threads(), plan.trainer["threads"]
    if wanted is not None:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        if wanted is not None:
            torch.set_num_threads(before)
