"""The experiments of a benchmark as a table with one row each, from which its report can be made again."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from deepsad_pl.common.records import APART, METRICS
from deepsad_pl.experiment.from_test_labels import is_test_informed
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.settings.about import own
from deepsad_pl.settings.own_metrics import values_of
from deepsad_pl.study.grid import Place
from deepsad_pl.study.jobs import Planned
from deepsad_pl.study.results import by_known, exact_auroc

_FIRST, _LAST = ("dataset", "method", "labels", "seed"), ("test_informed", "seconds", "hash")


def experiments_frame(
    planned: Iterable[Planned], records: Mapping[Path, Mapping[str, Any]], run_with: Sequence[str] = ()
) -> pd.DataFrame:
    """Make a data frame with one row per finished experiment, in the order of the study.

    Args:
        planned: the requested experiments.
        records: records of the finished experiments, by run folder.
        run_with: settings of the experiments that differ from the study's own.

    Returns:
        The frame with ``dataset``, ``method`` (with its variant, if it has several), ``labels`` (number of labeled
        anomalies; NaN for a method that does not see labels, which is run once for all numbers), ``seed``, one column
        per metric in any record, ``test_informed`` (whether a choice behind it used test labels), ``seconds`` (of
        training and scoring) and ``hash`` (of the experiment's identity). If a method is not the package's, a column
        ``heading`` has its heading in tables; if settings differ, a column ``run_with`` has them; if a data set has
        several normal classes in turn, a column ``normal_class`` names them.
    """
    rows: dict[Path, dict[str, Any]] = {}
    for part in planned:
        for place in part.places:
            plan = part.jobs[place.experiment].plan
            record = records.get(plan.run_dir)
            if record is not None and plan.run_dir not in rows:
                rows[plan.run_dir] = _row(place, plan, record)
    found = list(rows.values())
    in_turn = {(row["dataset"], row["normal_class"]) for row in found}
    first = [*_FIRST, *(["normal_class"] if len(in_turn) > len({dataset for dataset, _ in in_turn}) else [])]
    names = dict.fromkeys(key for row in found for key in row)
    metrics = [name for name in METRICS if name in names]
    metrics += [name for name in names if name not in {*_FIRST, *_LAST, *metrics, "heading", "normal_class"}]
    heading = ["heading"] if any(row["heading"] for row in found) else []
    frame = pd.DataFrame(found, columns=[*first, *metrics, *_LAST, *heading]).astype({"labels": "Int64"})
    return frame.assign(run_with=", ".join(run_with)) if run_with else frame


def _row(place: Place, plan: Plan, record: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: record[name] for name in METRICS if record.get(name) is not None}
    if place.stands_for is not None:
        # Where nothing is known, its own AUROC on novel anomalies is that on all.
        known = {name: value for name, value in known.items() if name not in APART}
        apart = pd.DataFrame(list(by_known(place.stands_for, place.k_l, plan, record)), columns=list(APART)).mean()
        known |= {str(name): value for name, value in apart.items() if pd.notna(value)}
    return {
        "dataset": plan.dataset.name,
        "method": place.variant,
        "labels": plan.scenario.label_count,
        "seed": plan.seed,
        "normal_class": place.normal_class,
        **known,
        "auroc": exact_auroc(plan.run_dir, record),
        **values_of(record),
        "test_informed": is_test_informed(plan, record),
        "seconds": round(sum(record["seconds"].values()), 3),
        "hash": record["hash"],
        "heading": "" if plan.method.name in own("method") else plan.about.heading or "",
    }
