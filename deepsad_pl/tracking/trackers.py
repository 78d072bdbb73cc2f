"""Trackers that report the losses and results of a run: to Weights & Biases, a CSV file, other loggers, or nowhere.

The local files are authoritative; a tracker only mirrors them.
"""

import csv
import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.files import write_atomic
from deepsad_pl.tracking.guarded_trackers import GuardedTracker, GuardedTrackers
from deepsad_pl.tracking.loggers import logger_nodes, wandb_settings
from deepsad_pl.tracking.tracker import NoTracker, Tracker
from deepsad_pl.tracking.wandb_run import Destination, NotStartedError, destination_of, open_run, trial_id

log = logging.getLogger(__name__)

LOSSES = "losses.csv"
RUN_ID = "wandb_id"
_RUN_ID = re.compile(r"[\w-]{1,128}", re.ASCII)
TEST = "test"
_BINS = 64  # of a histogram of scores
SCORES = (f"{TEST}/scores_normal", f"{TEST}/scores_anomalous")  # by label


class CSVTracker(NoTracker):
    """Appends the loss of every step to ``losses.csv`` in the run folder.

    Args:
        run_dir: the run folder.
    """

    COLUMNS = ("phase", "epoch", "step", "loss")

    def __init__(self, run_dir: str | Path) -> None:
        self._path = Path(run_dir) / LOSSES
        self._last: dict[str, int] = {}

    def losses(self, phase: str, epoch: int, first_step: int, values: Sequence[float]) -> None:
        """Append one row per step; a resumed training first drops the rows that it will repeat."""
        if epoch <= self._last.get(phase, epoch):
            self._drop(phase, epoch)
        self._last[phase] = epoch
        with self._path.open("a", newline="", encoding="utf-8") as file:
            rows = ((phase, epoch, first_step + i, repr(value)) for i, value in enumerate(values))
            csv.writer(file, lineterminator="\n").writerows(rows)

    def _drop(self, phase: str, epoch: int) -> None:
        kept = [",".join(self.COLUMNS)]
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8").splitlines()[1:]:
                fields = line.split(",")
                whole = len(fields) == len(self.COLUMNS)
                if whole and not (fields[0] == phase and int(fields[1]) >= epoch):
                    kept.append(line)
        write_atomic(self._path, "\n".join(kept) + "\n")


class WandbTracker:
    """One W&B run per experiment; a resumed experiment continues the same run.

    Args:
        run_dir: the run folder, which keeps the offline files.
        run_id: ID of the run.
        destination: where the run is logged.
        config: flat keys.
        job_type: job type of the run.
        plots: whether to draw the ROC curve. Its ``wandb.Table`` keeps a temporary folder until the process ends, which
            is costly in a worker with hundreds of runs.
        first_steps: the step of the whole run at which each phase begins, so that a resumed run goes on counting.

    Raises:
        DeepSADError: if W&B cannot be reached or refuses.
    """

    def __init__(
        self,
        run_dir: Path,
        destination: Destination,
        *,
        run_id: str,
        config: Mapping[str, Any],
        job_type: str,
        plots: bool,
        first_steps: Mapping[str, int],
    ) -> None:
        self._plots, self._first_steps = plots, first_steps
        self._run = open_run(
            run_dir,
            destination,
            name="/".join(run_dir.parts[-3:]),
            job_type=job_type,
            config=config,
            run_id=run_id,
        )
        for phase in ("pretrain", "fit"):
            self._run.define_metric(f"{phase}/step", hidden=True)
            self._run.define_metric(f"{phase}/*", step_metric=f"{phase}/step")

    def losses(self, phase: str, epoch: int, first_step: int, values: Sequence[float]) -> None:
        """Log the loss of each step, with its epoch, under the phase's name."""
        for step, value in enumerate(values, first_step):
            row = {f"{phase}/loss": value, f"{phase}/epoch": epoch, f"{phase}/step": step}
            self._run.log(row, step=self._first_steps[phase] + step)

    def result(self, metrics: Mapping[str, float], y: npt.NDArray[Any], score: npt.NDArray[Any]) -> None:
        """Put the metrics into the run's summary; log the histograms of the scores and, on demand, the ROC curve."""
        self._run.summary.update({f"{TEST}/{name}": value for name, value in metrics.items()})
        drawn = _histograms(y, score)
        known = y >= 0
        if self._plots and len(np.unique(y[known])) == 2:
            drawn[f"{TEST}/roc"] = _roc(y[known], score[known])
        self._run.log(drawn)

    def finish(self, failed: bool) -> None:
        """Close the run, with the status "failed" if it failed."""
        self._run.finish(exit_code=1 if failed else 0)


def _histograms(y: npt.NDArray[Any], score: npt.NDArray[Any]) -> dict[str, Any]:
    import wandb

    edges = _edges(score)
    drawn = {
        name: wandb.Histogram(np_histogram=np.histogram(score[y == label], bins=edges))
        for label, name in enumerate(SCORES)
        if (y == label).any()
    }
    if (y < 0).any():
        drawn[f"{TEST}/scores_unknown"] = wandb.Histogram(np_histogram=np.histogram(score[y < 0], bins=edges))
    return drawn


def _edges(score: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The edges of the bins of a histogram, shape (65,), increasing.

    NumPy refuses scores that differ by so little that the edges would coincide; their bins are wider here.
    """
    low, high = np.float64(score.min()), np.float64(score.max())
    least = 2 * _BINS * np.spacing(max(abs(low), abs(high)))
    if high - low < least:
        # As wide as NumPy makes the bins of equal scores, where that is possible.
        low, high = low - max(0.5, least), high + max(0.5, least)
    # The difference of two scores may be too large for a number.
    edges: npt.NDArray[np.float64] = 2 * np.linspace(low / 2, high / 2, _BINS + 1)
    return edges


def _roc(y: npt.NDArray[Any], score: npt.NDArray[Any]) -> Any:
    import wandb
    from sklearn.metrics import roc_curve

    fpr, tpr, _ = roc_curve(y, score)
    chosen = np.unique(np.linspace(0, len(fpr) - 1, 1000).round().astype(int))
    table = wandb.Table(columns=["fpr", "tpr"], data=np.stack([fpr, tpr], axis=1)[chosen].tolist())
    return wandb.plot.line(table, "fpr", "tpr", title="ROC curve")


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings: ``{"scenario": {"gamma_l": .05}}`` becomes ``{"scenario.gamma_l": .05}``."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def make_tracker(
    logger: Mapping[str, Any],
    run_dir: Path,
    config: Mapping[str, Any],
    *,
    group: str,
    plots: bool,
    first_steps: Mapping[str, int],
) -> Tracker:
    """Create the tracker that reports to all loggers chosen in the ``logger`` group.

    Args:
        logger: the group's settings.
        run_dir: the run folder.
        config: the whole configuration, nested.
        group: W&B group to use if the settings name none.
        plots: whether to draw the ROC curve if the settings leave it open.
        first_steps: the step of the whole run at which each phase begins.

    Raises:
        DeepSADError: if a logger cannot be created or is not a logger, or W&B refuses because no user is logged in. If
            it cannot start for another reason, a warning is logged, unless the run is the trial of a W&B agent.
    """
    made: list[GuardedTracker] = []
    try:
        if nodes := logger_nodes(logger):
            from deepsad_pl.tracking.made_loggers import tracker_of

            for name, node in nodes.items():
                tracker = tracker_of(node, f"logger.{name}", run_dir, config=config, first_steps=first_steps)
                made.append(GuardedTracker(tracker, name))
        # W&B comes last, so that no run is started if another logger cannot be created.
        if (wandb := wandb_settings(logger)) is not None:
            made += _wandb_tracker(wandb, run_dir, config, group=group, plots=plots, first_steps=first_steps)
    except BaseException:
        GuardedTrackers(made).finish(failed=True)
        raise
    return GuardedTrackers(made)


def _wandb_tracker(
    wandb: Mapping[str, Any],
    run_dir: Path,
    config: Mapping[str, Any],
    *,
    group: str,
    plots: bool,
    first_steps: Mapping[str, int],
) -> list[GuardedTracker]:
    """The tracker of W&B; none, with a warning, if W&B cannot start."""
    try:
        run = WandbTracker(
            run_dir,
            destination_of(wandb, group=group),
            run_id=_run_id(run_dir),
            config=flatten(config),
            job_type=wandb["job_type"],
            plots=plots if wandb["plots"] is None else wandb["plots"],
            first_steps=first_steps,
        )
    except NotStartedError as error:
        # The agent of a sweep waits for the result, which it would never see.
        if trial_id() is not None:
            raise
        log.warning("the run goes on without its reports: %s", error)
        return []
    return [GuardedTracker(run, "wandb")]


def _run_id(run_dir: Path) -> str:
    """The id of an experiment's W&B run: the W&B agent's, else that of the run to be resumed, else a new one."""
    path, trial = run_dir / RUN_ID, trial_id()
    try:
        kept = path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, ValueError):
        kept = ""
    # Not what somebody else wrote into the file, which W&B might refuse.
    if trial is None and _RUN_ID.fullmatch(kept):
        return kept
    run_id = trial or secrets.token_hex(4)
    write_atomic(path, run_id)
    return run_id


def log_trial(
    logger: Mapping[str, Any],
    run_dir: Path,
    config: Mapping[str, Any],
    metrics: Mapping[str, float],
    y: npt.NDArray[Any],
    score: npt.NDArray[Any],
    *,
    group: str,
) -> None:
    """Report the outcome of an already finished experiment to the trial of a W&B agent.

    Args:
        logger: the settings of W&B.
        run_dir: run folder of the experiment.
        config: the configuration, nested.
        metrics: metrics of the record.
        y: ground truth, shape (n,): 0 normal, 1 anomaly.
        score: anomaly scores, shape (n,).
        group: W&B group to use if the settings name none.

    Raises:
        DeepSADError: if W&B cannot be reached or refuses.
    """
    trial, plots = trial_id(), logger["plots"]
    assert trial is not None
    tracker = GuardedTracker(
        WandbTracker(
            run_dir,
            destination_of(logger, group=group),
            run_id=trial,
            config=flatten(config),
            job_type=logger["job_type"],
            plots=bool(plots),
            first_steps={},
        ),
        "wandb",
    )
    tracker.result(metrics, y, score)
    tracker.finish(failed=False)
