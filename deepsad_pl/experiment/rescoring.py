"""Recompute the scores of a finished experiment from its trained model."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy.typing as npt
from torch import Tensor

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.experiment.build import Parts, Phase, build, load_data
from deepsad_pl.experiment.finished import CHECKPOINTS
from deepsad_pl.experiment.fit_deep import finished_before, load_into_module
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.experiment.scoring import score_test_set
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.shallow.models import Model, load_model


def scores_again(plan: Plan, parts: Parts) -> tuple[Mapping[str, Tensor], npt.NDArray[Any] | None] | None:
    """Score the test set and the calibration samples with the trained model of the run folder.

    Args:
        plan: plan of the experiment, in one process.
        parts: its data and modules, which are not changed.

    Returns:
        ``idx``, ``y`` and ``score`` of every test sample, shape (n,) each; the scores of the calibration samples, None
        if the plan has no threshold. None if the model is missing or damaged.
    """
    if not plan.about.shallow:
        module = _trained(plan, parts.phases[-1])
        if module is None:
            return None
        result, _ = score_test_set(plan, module, parts.data)
        if not plan.threshold:
            return result, None
        calibration, _ = score_test_set(plan, module, parts.data, calibration=True)
        return result, calibration["score"].numpy()
    encoder = None
    if plan.method.features == "bottleneck" and (encoder := _trained(plan, parts.phases[0])) is None:
        return None
    from deepsad_pl.experiment.fit_shallow import score_saved

    try:
        return score_saved(plan, parts.data, encoder, plan.run_dir / CHECKPOINTS)
    except (DeepSADError, ValueError):  # no model, or one fitted on rows of another width
        return None


def _trained(plan: Plan, phase: Phase) -> TrainedMethod | None:
    """A copy of the module in its trained state, or None; the original stays as it is, in case it is trained again."""
    finished = finished_before(plan, phase)
    if finished is None:
        return None
    trained = replace(phase, module=copy.deepcopy(phase.module))
    load_into_module(trained, finished)
    return trained.module


def trained_model(plan: Plan) -> TrainedMethod | Model:
    """Load the trained model of a finished experiment: a module in evaluation mode, or a shallow method's model.

    Raises:
        DeepSADError: if its file is missing or damaged.
    """
    if plan.about.shallow:
        from deepsad_pl.experiment.fit_shallow import MODEL, of_package

        return load_model(plan.run_dir / CHECKPOINTS / MODEL, of_package(plan))
    module = _trained(plan, build(plan, load_data(plan)).phases[-1])
    if module is None:
        raise DeepSADError(
            f"the trained model in {plan.run_dir} is missing or damaged; run the experiment again with force=true"
        )
    return module.eval()
