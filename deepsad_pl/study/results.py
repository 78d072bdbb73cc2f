"""The records of a study as one tidy frame: a row for each experiment in each cell of the table."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from deepsad_pl.common.metrics import auroc
from deepsad_pl.common.records import read_scores
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.settings.own_metrics import values_of
from deepsad_pl.study.grid import Place, Study
from deepsad_pl.study.jobs import Planned

COLUMNS = (
    "dataset",
    "column",
    "variant",
    "normal_class",
    "anomaly_class",
    "seed",
    "experiment",
    "auroc",
    "borrowed",
    "protocol",
    "paper_n",
    "lr_from_test",
)


# How far from the exact value records in single precision are at most.
_NOISE = 1e-6


def results_frame(
    planned: Iterable[Planned],
    records: Mapping[Path, Mapping[str, Any]],
    study: Study,
    own_cells: Iterable[Place],
) -> pd.DataFrame:
    """One row for each experiment in each cell.

    Args:
        planned: what was asked for.
        records: of the finished experiments, by run folder.
        study: of the experiments; a data set that it does not list comes last.
        own_cells: all cells of the study with its own classes and seeds, which the paper's figures stand for.

    Returns:
        The columns of :data:`COLUMNS`, one for each axis and one for each metric of the user's own that a record has;
        ``auroc`` and the latter are NaN where there is no value.
    """
    counted = Counter(map(_cell, own_cells))
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    metrics: dict[str, None] = {}
    for part in planned:
        for place in part.places:
            key = (*_cell(place), place.normal_class, place.anomaly_class, place.seed)
            if key in rows:
                continue
            plan = part.jobs[place.experiment].plan
            record = records.get(plan.run_dir)
            # One that was computed without a study may have an axis's name.
            own = {name: value for name, value in values_of(record or {}).items() if name not in study.axes}
            rows[key] = {
                "dataset": plan.dataset["name"],
                "column": place.column,
                "variant": place.variant,
                **dict(zip(study.axes, place.row, strict=True)),
                "normal_class": place.normal_class,
                "anomaly_class": place.anomaly_class,
                "seed": place.seed,
                "experiment": str(plan.run_dir),
                "auroc": float("nan") if record is None else exact_auroc(plan.run_dir, record),
                "borrowed": place.borrowed,
                "protocol": None if record is None else record.get("selection", {}).get("protocol"),
                "paper_n": counted[_cell(place)],
                "lr_from_test": _has_lr_from_test(plan),
                **own,
            }
            metrics |= dict.fromkeys(own)
    order = [*study.datasets, *(key[0] for key in rows)]
    by_dataset = sorted(rows, key=lambda key: order.index(key[0]))
    return pd.DataFrame([rows[key] for key in by_dataset], columns=[*COLUMNS, *study.axes, *metrics])


def exact_auroc(run_dir: Path, record: Mapping[str, Any]) -> float:
    """The AUROC of a record in double precision.

    Records were once written in single precision, where 1.0 may read .99999994: beside an exact one a tie would become
    a difference. Such a value is replaced by the multiple of half a pair that is meant; one that is near none stays.
    Where the test set is so large that single precision does not tell which, it is computed from the scores. Without
    these, or if they are another run's, the nearest multiple is taken.

    Args:
        run_dir: where the scores lie.
        record: with the counts of the test set; without them the value is taken as it is.
    """
    recorded, counts = float(record["auroc"]), record.get("counts", {})
    if not {"test_normal", "test_anomalous"} <= counts.keys():
        return recorded
    halves = 2 * int(counts["test_normal"]) * int(counts["test_anomalous"])
    nearest = round(recorded * halves) / halves
    if 1 / halves > 2 * _NOISE:
        return nearest if abs(nearest - recorded) <= _NOISE else recorded
    if nearest == recorded:
        return nearest
    try:
        y, score = read_scores(run_dir)
        exact = auroc(score, y)
    except (OSError, ValueError):
        return nearest
    return exact if abs(exact - recorded) <= _NOISE else nearest


def _has_lr_from_test(plan: Plan) -> bool:
    """Whether a phase has the learning rates of the data set, and these were chosen by test AUROC."""
    phases = [phase for phase in (plan.method, plan.pretrain) if phase is not None]
    return bool(plan.dataset.get("lr_from_test")) and any(phase.get("lr") == plan.dataset["lr"] for phase in phases)


def _cell(place: Place) -> tuple[Any, ...]:
    return place.experiment.dataset, place.column, place.variant, place.row
