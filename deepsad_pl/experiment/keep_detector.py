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
from deepsad_pl.experiment.scoring import precision_of

log = logging.getLogger(__name__)

# Part of the scores' standard deviation by which those of the detector may differ from those of the run on average:
# rounding is far below it, a lost state or noise above.
_TOLERANCE = 0.05
_ROUNDING = 1e-3
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
        plan: plan of an experiment with a deep method; without a user's method, pre-training or network, nothing is
            compared.
        parts: its data and modules.
        result: ``idx`` and ``score`` of every test sample.
    """
    choices = (plan.method, plan.pretrain, plan.dataset.network)
    named = [target for choice in choices if choice for target in targets_of(choice.settings())]
    if all(target.startswith("deepsad_pl.") for target in named):
        return
    whose = " or ".join(target for target in named if not target.startswith("deepsad_pl."))
    x, _, _, idx = next(iter(parts.data.test_dataloader()))
    # Not the whole batch, so that scores which depend on it are noticed.
    x, idx = (part[: -(-len(part) // 2)].cpu() for part in (x, idx))
    try:
        with precision_of(plan, torch.device("cpu")):
            found = Detector.read(plan.run_dir / DETECTOR).module.checked_score(x)  # type: ignore[union-attr]
    except Exception as error:  # a user's code can raise anything, and the run is finished
        log.warning(
            "the detector cannot score (%s: %s): %s has state that its checkpoint lacks (use self.register_buffer), or "
            "needs a Trainer when it scores",
            *(type(error).__name__, error, whose),
        )
        return
    order = torch.argsort(result["idx"])
    scores = result["score"][order][torch.searchsorted(result["idx"][order], idx)]
    difference = (found.float() - scores).abs().mean()
    # Scores that are all alike differ by rounding only; where some are NaN, nothing can be compared.
    if difference > _TOLERANCE * result["score"].std() + _ROUNDING * scores.abs().mean():
        log.warning(
            "the detector scores test samples unlike the run, by %.3g on average: %s has state that its checkpoint "
            "lacks (use self.register_buffer), or draws random numbers when it scores, or a score depends on the batch",
            *(difference, whose),
        )
