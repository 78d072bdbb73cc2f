"""The records of a study as one tidy frame: a row for each experiment in each cell of the table."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from deepsad_pl.study.grid import Place
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
)


def results_frame(
    planned: Iterable[Planned],
    records: Mapping[Path, Mapping[str, Any]],
    whole: Iterable[Place],
    axes: Iterable[str],
) -> pd.DataFrame:
    """One row for each experiment in each cell.

    Args:
        planned: what was asked for.
        records: of the finished experiments, by run folder.
        whole: the places of the study when nothing is narrowed; those of a cell that was asked for and were not
            themselves count as missing.
        axes: names of the study's axes.

    Returns:
        The columns of :data:`COLUMNS` and one for each axis; ``auroc`` is NaN where there is no record.
    """
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    names: dict[str, str] = {}
    for part in planned:
        for place in part.places:
            job = part.jobs[place.experiment]
            record = records.get(job.plan.run_dir)
            names[place.experiment.dataset] = job.plan.dataset["name"]
            rows.setdefault(
                _key(place),
                {
                    **_row(place, axes, names[place.experiment.dataset]),
                    "experiment": str(job.plan.run_dir),
                    "auroc": float("nan") if record is None else record["auroc"],
                    "protocol": None if record is None else record.get("selection", {}).get("protocol"),
                },
            )
    cells = {key[:4] for key in rows}
    whole = list(whole)
    order = list(dict.fromkeys(place.experiment.dataset for place in whole))
    for place in whole:
        if _key(place) not in rows and _key(place)[:4] in cells:
            rows[_key(place)] = {
                **_row(place, axes, names[place.experiment.dataset]),
                "experiment": " ".join(place.experiment.overrides()),
                "auroc": float("nan"),
                "protocol": None,
            }
    # A data set that the study does not have comes last.
    by_dataset = sorted(rows, key=lambda key: order.index(key[0]) if key[0] in order else len(order))
    return pd.DataFrame([rows[key] for key in by_dataset], columns=[*COLUMNS, *axes])


def _key(place: Place) -> tuple[Any, ...]:
    cell = (place.experiment.dataset, place.column, place.variant, place.row)
    return (*cell, place.normal_class, place.anomaly_class, place.seed)


def _row(place: Place, axes: Iterable[str], dataset: str) -> dict[str, Any]:
    return {
        "dataset": dataset,
        "column": place.column,
        "variant": place.variant,
        **dict(zip(axes, place.row, strict=True)),
        "normal_class": place.normal_class,
        "anomaly_class": place.anomaly_class,
        "seed": place.seed,
        "borrowed": place.borrowed,
    }
