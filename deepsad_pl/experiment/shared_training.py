"""Trainings that experiments can share through the cache of autoencoders. Does not import torch."""

import json
from collections.abc import Hashable
from typing import Any

from deepsad_pl.experiment.plan import Plan
from deepsad_pl.experiment.results_version import RESULTS_VERSION
from deepsad_pl.settings.choices import PretrainChoice, TrainingChoice

# Increase this when the meaning of an autoencoder's settings changes, so that old cache entries are not reused.
_CACHE_FORMAT = 1


def determined_by(plan: Plan, choice: TrainingChoice) -> dict[str, Any] | None:
    """Everything that the result of a training depends on except its rows; None if no other experiment can reuse it.

    Args:
        plan: plan of the experiment.
        choice: its pre-training or its method.
    """
    if plan.starts_warm or not (choice is plan.pretrain or plan.about.is_pretraining):
        return None
    training = dict(plan.identity[choice.group])
    # The digest of the rows already covers which labels are seen.
    for key in ("data", "sees_labeled_anomalies"):
        training.pop(key, None)
    return {
        "format": _CACHE_FORMAT,
        "results": RESULTS_VERSION,
        # The rows alone determine such a training; files with labels of some of them do not matter.
        "dataset": {key: value for key, value in plan.identity["dataset"].items() if key != "label_files"},
        "training": training,
        "seed": plan.seed,
        "precision": plan.trainer["precision"],
        **({"trainer": plan.identity["trainer"]} if "trainer" in plan.identity else {}),
    }


def training_key(plan: Plan, choice: TrainingChoice) -> Hashable:
    """A key that is equal for trainings that experiments of one sweep share; None if this one is not shared.

    The rows are those of the scenario, which is known before any data are read. Scenarios that differ although they
    happen to have the same rows get different keys.

    Args:
        plan: plan of the experiment.
        choice: its pre-training or its method.
    """
    known = determined_by(plan, choice) if plan.cache_dir is not None and plan.ranks == 1 else None
    if known is None:
        return None
    scenario = plan.scenario
    if isinstance(choice, PretrainChoice) and choice.data == "unlabeled":
        scenario = scenario.unsupervised() or scenario
    rows = [scenario.as_dict(), plan.threshold.share]
    return json.dumps([known, rows, str(plan.cache_dir)], sort_keys=True, default=str)
