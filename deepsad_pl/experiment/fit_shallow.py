"""Run shallow methods on the data of an experiment: extract features, fit, score, save the model."""

import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from deepsad_pl.common.components import instantiate
from deepsad_pl.common.console import console, progress_columns
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import write_atomic
from deepsad_pl.data.batch_loader import BatchLoader
from deepsad_pl.data.datamodule import AnomalyDataModule
from deepsad_pl.experiment.build import SHALLOW_STREAM, stream
from deepsad_pl.experiment.identity import holdout_folds
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.shallow.models import Model, load_model, save_model
from deepsad_pl.shallow.task import Fitted, Task

MODEL, GRID = "model.npz", "grid"


@dataclass(frozen=True)
class Scored:
    """Result of a shallow method.

    Attributes:
        result: ``idx``, ``y`` and ``score`` of every test sample.
        selection: its hyper-parameters, and how they were selected.
        fit_seconds: time for the fit, including the selection.
        score_seconds: time for scoring the test set.
        calibration: scores of the calibration samples; None if the plan has no threshold.
    """

    result: dict[str, Tensor]
    selection: dict[str, Any]
    fit_seconds: float
    score_seconds: float
    calibration: npt.NDArray[np.float64] | None = None


def fit_shallow(
    plan: Plan, data: AnomalyDataModule, encoder: TrainedMethod | None, folder: Path
) -> tuple[Fitted, float]:
    """Fit the plan's shallow method, and save the model as ``model.npz``.

    Args:
        plan: plan of the experiment.
        data: training and test data of the method.
        encoder: a trained autoencoder, whose bottleneck gives the features; None: use the inputs.
        folder: folder for the model, and for the solutions of the grid during the fit.

    Returns:
        What was fitted; the seconds that it took, over all restarts.
    """
    grid = folder / GRID
    grid.mkdir(parents=True, exist_ok=True)
    # Only the paper's protocol may use the test set before the method is fitted.
    peeks = plan.method.arguments.get("selection") == "test_subset"
    clock = _Clock(grid / "seconds")
    with _progress("fit") as show:

        def advance(share: float) -> None:
            show(share)
            clock.keep()

        task = Task(
            x=features(data.ordered_dataloader(), encoder),
            semi_y=data.semi_y,
            seed=stream(plan.seed, SHALLOW_STREAM),
            x_test=features(data.test_dataloader(), encoder) if peeks else None,
            y_test=data.test_y if peeks else None,
            holdout_folds=holdout_folds(plan.method, plan.scenario),
            threads=torch.get_num_threads(),
            grid_dir=grid,
            advance=advance,
        )
        target = plan.method.target
        node = {"_target_": target, **plan.method.arguments, "_partial_": True}
        fitted = instantiate(node, "method")(task)
        if not isinstance(fitted, Fitted) or not isinstance(fitted.model, Model):
            raise DeepSADError(
                f"method._target_ is {target}, which returned a {type(fitted).__name__}; it must return a "
                "deepsad_pl.shallow.task.Fitted with a deepsad_pl.shallow.models.Model"
            )
    save_model(folder / MODEL, fitted.model)
    return fitted, clock.seconds


def score_shallow(plan: Plan, data: AnomalyDataModule, encoder: TrainedMethod | None, folder: Path) -> Scored:
    """Fit the plan's shallow method as :func:`fit_shallow` does, and score the test set."""
    fitted, fit_seconds = fit_shallow(plan, data, encoder, folder)
    start = time.monotonic()
    result = _result(data, fitted.model.score(features(data.test_dataloader(), encoder)))
    score_seconds = time.monotonic() - start
    calibration = calibration_scores(plan, data, encoder, fitted.model)
    shutil.rmtree(folder / GRID)
    return Scored(result, fitted.selection, fit_seconds, score_seconds, calibration)


def score_saved(
    plan: Plan, data: AnomalyDataModule, encoder: TrainedMethod | None, folder: Path
) -> tuple[dict[str, Tensor], npt.NDArray[np.float64] | None]:
    """Score the test set with the model that :func:`score_shallow` has saved.

    Args:
        plan: plan of the experiment.
        data: test data of the method.
        encoder: as passed to :func:`score_shallow`.
        folder: folder of the model.

    Returns:
        ``idx``, ``y`` and ``score`` of every test sample; the scores of the calibration samples, None if the plan has
        no threshold.

    Raises:
        DeepSADError: if the model is missing or damaged.
        ValueError: if the model was fitted on rows of another width.
    """
    model = load_model(folder / MODEL, of_package(plan))
    result = _result(data, model.score(features(data.test_dataloader(), encoder)))
    return result, calibration_scores(plan, data, encoder, model)


def of_package(plan: Plan) -> str:
    """The top-level package of a plan's method; only model classes from it may be loaded."""
    return plan.method.target.partition(".")[0]


def calibration_scores(
    plan: Plan, data: AnomalyDataModule, encoder: TrainedMethod | None, model: Model
) -> npt.NDArray[np.float64] | None:
    """The scores of the calibration samples, shape (n,); None if the plan has no threshold."""
    return model.score(features(data.calibration_dataloader(), encoder)) if plan.threshold else None


def _result(data: AnomalyDataModule, score: npt.NDArray[np.float64]) -> dict[str, Tensor]:
    y = torch.from_numpy(data.test_y)
    return {"idx": torch.arange(len(y)), "y": y, "score": torch.from_numpy(score)}


class _Clock:
    """Total seconds of a fit over all its restarts, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path, self._start = path, time.monotonic()
        self._before = _seconds_in(path)

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._start

    def keep(self) -> None:
        write_atomic(self._path, repr(self.seconds))


def _seconds_in(path: Path) -> float:
    """The seconds in a clock's file; 0 without one, and if it does not hold a number of seconds."""
    try:
        seconds = float(path.read_text())
    except (OSError, ValueError):
        return 0.0
    return seconds if 0 <= seconds < math.inf else 0.0


@torch.no_grad()
def features(loader: BatchLoader, encoder: TrainedMethod | None) -> npt.NDArray[np.float32]:
    """The inputs of a shallow method, in the loader's order, shape (N, D).

    Args:
        loader: yields ``(x, ...)``.
        encoder: module whose representation of x is used, in evaluation mode; None: use x itself, flattened.
    """
    if encoder is not None:
        encoder.eval()
    rows = [x.flatten(1) if encoder is None else encoder.represent(x) for x, *_ in loader]
    return torch.cat(rows).float().numpy()


@contextmanager
def _progress(name: str) -> Iterator[Callable[[float], None]]:
    columns = progress_columns(
        console,
        TextColumn("{task.description:<9}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=console.quiet) as progress:
        bar = progress.add_task(name, total=1.0)
        yield lambda share: progress.update(bar, completed=share)
