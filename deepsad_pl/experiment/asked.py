"""The samples that an experiment with ``scenario=queried`` asks about, and the answers of a simulated expert."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from omegaconf import OmegaConf

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.queried_labels import QueriedLabels, first_rows, oracle, pool_of, query_seed
from deepsad_pl.data.scenario import TrainingSet
from deepsad_pl.data.sources import Source
from deepsad_pl.detector.detector import Detector
from deepsad_pl.detector.detector_folder import DETECTOR
from deepsad_pl.detector.inputs import Prepared
from deepsad_pl.detector.query import Strategy, choose, substitute_threshold
from deepsad_pl.experiment.finished import record_of
from deepsad_pl.experiment.plan import Plan

IntArray = npt.NDArray[np.int64]

# In the record: the rows of the training data that are labeled, ascending.
LABELED_ROWS = "labeled_rows"


def with_answers(plan: Plan, source: Source) -> Source:
    """Label the samples that an experiment asks about with their true labels; no other true label is used.

    The record of a finished experiment lists these samples. For any other experiment they are chosen: in round 0 at
    random, later by the scenario's strategy, from the scores of the previous round's detector.

    Args:
        plan: plan of the experiment; unless its scenario is ``queried``, the source is returned unchanged.
        source: its data.

    Raises:
        DeepSADError: if the previous round is not finished, or the pool has too few rows.
    """
    if not isinstance(plan.scenario, QueriedLabels):
        return source
    pool = pool_of(source.labels_train, plan.scenario, plan.classes)
    rows = None if plan.force else _recorded(plan)
    if rows is None:
        before = plan.previous_round
        rows = first_rows(pool, plan.scenario) if before is None else _asked(plan, before, source, pool)
    return replace(source, semi_y_train=oracle(source.labels_train, rows, plan.scenario))


def require_pool(plan: Plan, source: Source) -> None:
    """Check that the pool has enough rows for all labels; called before the earlier rounds run.

    Raises:
        DeepSADError: if it has too few.
    """
    if isinstance(plan.scenario, QueriedLabels):
        pool_of(source.labels_train, plan.scenario, plan.classes)


def round_before(
    plan: Plan, config: Mapping[str, Any], config_yaml: str, command: str
) -> tuple[Plan, dict[str, Any], str, str] | None:
    """The experiment of the previous round, as its own command would run it; None in round 0.

    Args:
        plan: plan of the experiment.
        config: its configuration, nested.
        config_yaml: its configuration as YAML.
        command: command line that repeats it.

    Returns:
        The same four for the previous round.
    """
    if plan.previous_round is None:
        return None
    rounds = cast(QueriedLabels, plan.previous_round.scenario).rounds
    yaml = OmegaConf.create(config_yaml)
    OmegaConf.update(yaml, "scenario.rounds", rounds)
    return (
        # A worker may have set the number of threads, which is not part of the identity.
        replace(plan.previous_round, trainer=plan.trainer),
        {**config, "force": False, "scenario": {**config["scenario"], "rounds": rounds}},
        OmegaConf.to_yaml(yaml),
        f"{command} scenario.rounds={rounds}",
    )


def _asked(plan: Plan, before: Plan, source: Source, pool: TrainingSet) -> IntArray:
    """The labeled rows of the previous round and those that its detector asks about next, ascending."""
    scenario = cast(QueriedLabels, plan.scenario)
    known = _recorded(before)
    if known is None:
        raise DeepSADError(
            f"scenario.rounds={scenario.rounds} starts from the previous round, which is not finished in "
            f"{before.run_dir}; run it with scenario.rounds={scenario.rounds - 1}"
        )
    detector = Detector.read(before.run_dir / DETECTOR)
    samples = Prepared(source.x_train[pool.index])
    score = detector.scored(samples)
    answers = oracle(source.labels_train, known, scenario)[pool.index]
    chosen = choose(
        score,
        by=cast(Strategy, scenario.by),
        count=scenario.count,
        threshold=substitute_threshold(score, answers) if scenario.by == "uncertain" else None,
        features=detector.represented(samples) if scenario.by == "diverse" else None,
        seed=query_seed(scenario),
        labeled=answers != 0,
    )
    if len(chosen) < scenario.count:
        raise DeepSADError(
            f"the previous round, in {before.run_dir}, gives a finite score to only {len(chosen)} of the samples "
            f"without a label, but scenario.query_count is {scenario.count}; lower it"
        )
    return np.sort(np.concatenate([known, pool.index[chosen]]))


def _recorded(plan: Plan) -> IntArray | None:
    """The labeled rows in the record of a finished experiment; None if it is not finished."""
    record = record_of(plan)
    return None if record is None else np.asarray(record[LABELED_ROWS], dtype=np.int64)
