"""Recognize a finished experiment from its plan and files, without importing torch, so that the answer is fast."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deepsad_pl.common.calibration_scores import CALIBRATION, calibration_problem
from deepsad_pl.common.files import clear_parts, locked
from deepsad_pl.common.ranks import is_main_process
from deepsad_pl.common.records import (
    METRICS,
    REPORT,
    SCORES,
    identity_hash,
    read_record,
    read_scores,
    scores_problem,
    warn_once,
    write_record,
)
from deepsad_pl.detector.detector_folder import DETECTOR, keep_threshold
from deepsad_pl.experiment.calibrated import has_threshold, threshold_metrics, with_threshold
from deepsad_pl.experiment.class_metrics import lacks_metrics, with_all_metrics
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.settings.own_metrics import lacking, values_of, with_metrics
from deepsad_pl.tracking.loggers import wandb_settings
from deepsad_pl.tracking.trackers import log_trial
from deepsad_pl.tracking.wandb_run import trial_id

log = logging.getLogger(__name__)

# The folder of a run with its checkpoints.
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Outcome:
    """Outcome of an experiment.

    Attributes:
        record: content of ``metrics.json``.
        run_dir: the run folder.
        was_finished: whether it was finished before, so that nothing was trained.
    """

    record: dict[str, Any]
    run_dir: Path
    was_finished: bool


def record_of(plan: Plan) -> dict[str, Any] | None:
    """The valid record of an experiment, or None; an invalid record causes a warning.

    Raises:
        DeepSADError: if there is a record that cannot be read.
    """
    return read_record(plan.run_dir, identity_hash(plan.identity))


def finished_outcome(plan: Plan) -> Outcome | None:
    """The outcome of an experiment that need not be run again, or None.

    Raises:
        DeepSADError: if one of its files cannot be read.
    """
    record = None if plan.force else record_of(plan)
    if record is None:
        return None
    if (problem := scores_problem(plan.run_dir, record)) is not None:
        warn_once(f"{plan.run_dir / SCORES} {problem}: it is written again from the trained model")
        return None
    if plan.threshold and (problem := calibration_problem(plan.run_dir, record)) is not None:
        warn_once(f"{plan.run_dir / CALIBRATION} {problem}: it is written again from the trained model")
        return None
    return Outcome(record, plan.run_dir, was_finished=True)


@contextmanager
def locked_run(plan: Plan, *, wait: bool = True) -> Iterator[None]:
    """Lock an experiment against other processes, and remove the temporary files of those that were killed.

    Raises:
        DeepSADError: if the run folder cannot be written.
        BusyError: if another process holds the lock and ``wait`` is false.
    """
    busy = f"another process is running the experiment in {plan.run_dir}"
    with locked(plan.run_dir / ".lock", busy=busy, way_out="choose another output_dir", wait=wait):
        clear_parts(plan.run_dir, plan.run_dir / CHECKPOINTS, plan.run_dir / DETECTOR, locked=True)
        yield


def answer(plan: Plan, config: Mapping[str, Any], *, has_lock: bool = False, wait: bool = True) -> Outcome | None:
    """As :func:`finished_outcome`, with all requested metrics and the threshold; also tells a W&B agent's trial.

    Metrics missing from the record, and a threshold with another alpha, are computed from the scores and added to it;
    so are the metrics that an earlier release did not have.

    Args:
        plan: plan of the experiment.
        config: the configuration, nested, for W&B.
        has_lock: whether this process already holds :func:`locked_run`.
        wait: whether to wait for another process that holds the lock, if a metric must be written.

    Raises:
        DeepSADError: if one of its files cannot be read, a metric cannot be computed, or W&B cannot be reached or
            refuses.
        BusyError: if another process is running the experiment and ``wait`` is false.
    """
    outcome = finished_outcome(plan)
    if outcome is not None and _is_outdated(plan, outcome.record) and is_main_process(plan.ranks):
        with nullcontext() if has_lock else locked_run(plan, wait=wait):
            # The process that held the lock may have changed the outcome.
            outcome = finished_outcome(plan)
            outcome = outcome and _with_metrics(plan, outcome)
    wandb = wandb_settings(plan.logger)
    if outcome is not None and wandb is not None and trial_id() and is_main_process(plan.ranks):
        known = {name: outcome.record[name] for name in METRICS if outcome.record[name] is not None}
        metrics = known | threshold_metrics(outcome.record) | values_of(outcome.record)
        log_trial(wandb, plan.run_dir, config, metrics, *read_scores(plan.run_dir), group=plan.wandb_group)
    return outcome


def _is_outdated(plan: Plan, record: Mapping[str, Any]) -> bool:
    return lacks_metrics(record) or bool(lacking(plan.metrics, record)) or not has_threshold(record, plan.threshold)


def _with_metrics(plan: Plan, outcome: Outcome) -> Outcome:
    """Compute the metrics and the threshold that a record lacks, as far as possible, and write ``metrics.json``.

    Raises:
        DeepSADError: about the metrics that cannot be computed, or an alpha that is too small.
    """
    record = with_threshold(plan.run_dir, with_all_metrics(plan, outcome.record), plan.threshold)
    moved = record.get("threshold") != outcome.record.get("threshold")
    record, error = with_metrics(plan.run_dir, record, plan.metrics)
    if moved:
        # Before the record, which tells whether this has been done.
        keep_threshold(plan.run_dir / DETECTOR, record["threshold"])
    if record != outcome.record:
        _forget_report(plan.run_dir)
        write_record(plan.run_dir, record)
        for told in _changes(plan, outcome.record, record):
            log.info("%s, without training: %s", told, plan.run_dir)
    if error is not None:
        raise error
    return replace(outcome, record=record)


def lacks_report(plan: Plan, *, single: bool = False) -> bool:
    """Whether a run has no page though it should have one, as after a kill or a run of an earlier release.

    Args:
        plan: plan of the experiment.
        single: whether it is the only experiment, which has a page if the settings leave it open.
    """
    return (single if plan.report is None else plan.report) and not (plan.run_dir / REPORT).exists()


def _forget_report(run_dir: Path) -> None:
    """Remove the page of a run whose record is about to change, before it shows something else."""
    if (run_dir / REPORT).exists():
        (run_dir / REPORT).unlink()
        log.info("%s is outdated and removed; python report.py run=%s writes it again", REPORT, run_dir)


def _changes(plan: Plan, before: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """What was computed for a record, one phrase each."""
    told = []
    if lacks_metrics(before):
        new = [name for name in METRICS if name not in before and record[name] is not None]
        told += [f"{', '.join(new)} computed from its scores"] if new else []
    if record.get("threshold") != before.get("threshold"):
        level = ", ".join(f"{key} {value}" for key, value in plan.threshold.described.items() if key != "share")
        told.append(f"the threshold is now {record['threshold']['value']:g} ({level})")
    if names := [name for name in lacking(plan.metrics, before) if name not in lacking(plan.metrics, record)]:
        told.append(f"{', '.join(names)} computed from its scores")
    return told
