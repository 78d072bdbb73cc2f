"""The records of a study as a tidy data frame: one row per experiment and table cell."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from deepsad_pl.common.metrics import auroc
from deepsad_pl.common.records import auroc_of, read_scores
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


# The maximum error of records in single precision.
_NOISE = 1e-6


def results_frame(
    planned: Iterable[Planned],
    records: Mapping[Path, Mapping[str, Any]],
    study: Study,
    own_cells: Iterable[Place],
) -> pd.DataFrame:
    """Make a data frame with one row per experiment and cell.

    Args:
        planned: the requested experiments.
        records: records of the finished experiments, by run folder.
        study: the study, which defines the order; data sets that it does not list come last.
        own_cells: all cells of the study with its own classes and seeds, to which the paper's results refer.

    Returns:
        The frame with the columns :data:`COLUMNS`, one column per axis and one per user-defined metric in any record.
        Missing values of ``auroc`` and of these metrics are NaN.
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
            # A metric that was computed outside the study may have the same name as an axis.
            own = {name: value for name, value in values_of(record or {}).items() if name not in study.axes}
            rows[key] = {
                "dataset": plan.dataset.name,
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

    Records used to be written in single precision, where 1.0 may become .99999994, so that a tie with an exact value
    would look like a difference. An exact AUROC is a multiple of half a pair (of a normal and an anomalous sample), so
    such a value is replaced by the multiple it stands for; a value that is not near a multiple is kept. If the test set
    is so large that several multiples are possible, the AUROC is computed from the scores; if these are missing or
    belong to another run, the nearest multiple is used.

    Args:
        run_dir: run folder with the scores.
        record: the record; without the counts of the test set, its value is returned unchanged.
    """
    recorded, counts = auroc_of(record), record.get("counts", {})
    if math.isnan(recorded) or not {"test_normal", "test_anomalous"} <= counts.keys():
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
    """Whether a phase uses the data set's learning rates and these were chosen by test AUROC."""
    phases = [phase for phase in (plan.method, plan.pretrain) if phase is not None]
    return plan.dataset.lr_from_test and any(phase.arguments.get("lr") == plan.dataset.lr for phase in phases)


def _cell(place: Place) -> tuple[Any, ...]:
    return place.experiment.dataset, place.column, place.variant, place.row
