"""Write the detector of a finished experiment: what was trained, and everything needed to score raw input."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deepsad_pl.common.components import targets_of
from deepsad_pl.detector.detector import Detector
from deepsad_pl.detector.detector_folder import DETECTOR, MODEL, MODULE, write_detector
from deepsad_pl.detector.inputs import Inputs
from deepsad_pl.experiment.build import Parts
from deepsad_pl.experiment.finished import CHECKPOINTS
from deepsad_pl.experiment.fit_deep import checkpoint_path
from deepsad_pl.experiment.plan import Plan

log = logging.getLogger(__name__)

# Part of the standard deviation of the scores by which those of the detector may differ from those of the run.
_TOLERANCE = 0.05
# Number of samples that explanations compare with: for rows, and for images, where each costs more.
_REFERENCES = (32, 16)


def keep_detector(plan: Plan, parts: Parts, record: Mapping[str, Any]) -> None:
    """Write ``<run>/detector/`` from the checkpoints of a run.

    Args:
        plan: plan of the experiment.
        parts: its data and modules; only the classes of the modules are used.
        record: its record.

    Raises:
        DeepSADError: if a checkpoint is missing.
    """
    shallow = plan.about.shallow
    raw = shallow and plan.method.features == "raw"
    phase = None if raw else parts.phases[0] if shallow else parts.phases[-1]
    kind = type(phase.module) if phase is not None else None
    sources = {} if phase is None else {MODULE: checkpoint_path(plan, phase)}
    if shallow:
        sources[MODEL] = plan.run_dir / CHECKPOINTS / MODEL
    facts = {
        "dataset": record["dataset"],
        "method": record["method"],
        "hash": record["hash"],
        "versions": record["versions"],
        "target": None if kind is None else f"{kind.__module__}.{kind.__qualname__}",
        "package": plan.method.target.partition(".")[0] if shallow else None,
        "precision": plan.trainer["precision"],
        "threshold": record.get("threshold"),
    }
    inputs = Inputs.of_source(parts.data.source)
    references = parts.data.references(_REFERENCES[0] if inputs.are_rows else _REFERENCES[1])
    write_detector(plan.run_dir / DETECTOR, sources, inputs, facts, references)


@torch.no_grad()
def warn_if_it_differs(plan: Plan, parts: Parts, result: Mapping[str, Tensor]) -> None:
    """Log a warning if the detector scores test samples unlike the run that has just been trained with a user's code.

    Args:
        plan: plan of the experiment; without a user's method, pre-training or network, nothing is compared. It is
            of a deep method.
        parts: its data and modules.
        result: ``idx`` and ``score`` of every test sample.
    """
    choices = (plan.method, plan.pretrain, plan.dataset.network)
    named = [target for choice in choices if choice for target in targets_of(choice.settings())]
    if all(target.startswith("deepsad_pl.") for target in named):
        return
    module = Detector.read(plan.run_dir / DETECTOR).module
    assert module is not None
    x, _, _, idx = next(iter(parts.data.test_dataloader()))
    order = torch.argsort(result["idx"])
    scores = result["score"][order][torch.searchsorted(result["idx"][order], idx)]
    difference = (module.checked_score(x) - scores).abs().max()
    # NaN would differ from NaN.
    if difference > _TOLERANCE * result["score"].std():
        log.warning(
            "the detector scores test samples unlike the run, by up to %.3g: %s has state that its checkpoint lacks "
            "(use self.register_buffer), or draws random numbers when it scores, or a score depends on the batch",
            *(difference, " or ".join(target for target in named if not target.startswith("deepsad_pl."))),
        )
