"""A finished experiment, told from its plan and its files alone: without torch, so that the answer comes at once."""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deepsad_pl.common.files import locked
from deepsad_pl.common.ranks import is_main_process
from deepsad_pl.common.records import (
    METRICS,
    SCORES,
    identity_hash,
    read_record,
    read_scores,
    scores_problem,
    warn_once,
    write_record,
)
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.settings.own_metrics import lacking, values_of, with_metrics
from deepsad_pl.tracking.loggers import wandb_settings
from deepsad_pl.tracking.trackers import log_trial
from deepsad_pl.tracking.wandb_run import trial_id

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of an experiment.

    Attributes:
        record: what ``metrics.json`` holds.
        run_dir: the run folder.
        was_finished: whether it was there before, so that nothing was trained.
    """

    record: dict[str, Any]
    run_dir: Path
    was_finished: bool


def record_of(plan: Plan) -> dict[str, Any] | None:
    """The valid record of an experiment, or None; one that is not valid costs a warning.

    Raises:
        DeepSADError: if there is one that cannot be read.
    """
    return read_record(plan.run_dir, identity_hash(plan.identity))


def finished_outcome(plan: Plan) -> Outcome | None:
    """The outcome of an experiment that is not to be run any more, or None.

    Raises:
        DeepSADError: if one of its files cannot be read.
    """
    record = None if plan.force else record_of(plan)
    if record is None:
        return None
    if (problem := scores_problem(plan.run_dir, record)) is not None:
        warn_once(f"{plan.run_dir / SCORES} {problem}: it is written again from the trained model")
        return None
    return Outcome(record, plan.run_dir, was_finished=True)


def locked_run(plan: Plan, *, wait: bool = True) -> AbstractContextManager[None]:
    """Keep every other process from an experiment.

    Raises:
        DeepSADError: if the run folder cannot be written.
        BusyError: if another one has it and it is not to be waited for.
    """
    busy = f"another process is at work on {plan.run_dir}"
    return locked(plan.run_dir / ".lock", busy=busy, way_out="choose another output_dir", wait=wait)


def answer(plan: Plan, config: Mapping[str, Any], *, has_lock: bool = False, wait: bool = True) -> Outcome | None:
    """As :func:`finished_outcome`, with the metrics that are asked for; the trial of a W&B agent gets what is stored.

    Metrics that the record lacks are computed from the scores and written into it.

    Args:
        plan: of the experiment.
        config: the configuration, nested, for W&B.
        has_lock: whether this process holds :func:`locked_run` already.
        wait: whether to wait for another process that holds it, where a metric is to be written.

    Raises:
        DeepSADError: if one of its files cannot be read, a metric cannot be computed, or W&B cannot be reached or
            refuses.
        BusyError: if another process is at work on it and is not to be waited for.
    """
    outcome = finished_outcome(plan)
    if outcome is not None and lacking(plan.metrics, outcome.record) and is_main_process(plan.ranks):
        with nullcontext() if has_lock else locked_run(plan, wait=wait):
            # Whoever had the lock may have changed it.
            outcome = finished_outcome(plan)
            outcome = outcome and _with_metrics(plan, outcome)
    wandb = wandb_settings(plan.logger)
    if outcome is not None and wandb is not None and trial_id() and is_main_process(plan.ranks):
        metrics = {name: outcome.record[name] for name in METRICS} | values_of(outcome.record)
        log_trial(wandb, plan.run_dir, config, metrics, *read_scores(plan.run_dir), group=plan.wandb_group)
    return outcome


def _with_metrics(plan: Plan, outcome: Outcome) -> Outcome:
    """Write the metrics that a record lacks into ``metrics.json``, as far as they can be computed.

    Raises:
        DeepSADError: about those that cannot.
    """
    record, error = with_metrics(plan.run_dir, outcome.record, plan.metrics)
    if record != outcome.record:
        write_record(plan.run_dir, record)
        log.info("metrics computed from %s, without training", plan.run_dir / SCORES)
    if error is not None:
        raise error
    return replace(outcome, record=record)
