"""A finished experiment, told from its plan and its files alone: without torch, so that the answer comes at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepsad_pl.loggers import wandb_settings
from deepsad_pl.plan import Plan
from deepsad_pl.ranks import is_main_process
from deepsad_pl.results import METRICS, SCORES, identity_hash, read_record, read_scores, scores_problem, warn_once
from deepsad_pl.tracking import log_trial
from deepsad_pl.wandb_run import trial_id


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


def answer(plan: Plan, config: Mapping[str, Any]) -> Outcome | None:
    """As :func:`finished_outcome`; the trial of a W&B agent gets what is stored.

    Args:
        plan: of the experiment.
        config: the configuration, nested, for W&B.

    Raises:
        DeepSADError: if one of its files cannot be read, or W&B cannot be reached or refuses.
    """
    outcome = finished_outcome(plan)
    to_wandb = wandb_settings(plan.logger) is not None
    if outcome is not None and to_wandb and trial_id() and is_main_process(plan.ranks):
        metrics = {name: outcome.record[name] for name in METRICS}
        log_trial(plan, config, metrics, *read_scores(plan.run_dir))
    return outcome
