"""Write the detector of a finished experiment: what was trained, and everything needed to score raw input."""

from collections.abc import Mapping
from typing import Any

from deepsad_pl.detector.detector_folder import DETECTOR, MODEL, MODULE, write_detector
from deepsad_pl.detector.inputs import Inputs
from deepsad_pl.experiment.build import Parts
from deepsad_pl.experiment.finished import CHECKPOINTS
from deepsad_pl.experiment.fit_deep import checkpoint_path
from deepsad_pl.experiment.plan import Plan

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
