"""The results of a benchmark of many tables: one row an experiment, averaged over seeds for each label budget."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.report.columns import value_text
from deepsad_pl.settings.about import column_of, of_method, own, own_columns

OVERALL = "overall"
# Columns of the results that not all have: the class that is normal, if there are several in turn, and whether a choice
# behind the result used test labels.
_NORMAL, _INFORMED = "normal_class", "test_informed"
_TRUTHS = {"true": True, "false": False, "": False}


@dataclass(frozen=True)
class Budget:
    """Results with one number of labeled anomalies; all frames have a row per data set and a column per method.

    Attributes:
        name: the number of labeled anomalies as text, or ``overall``.
        title: heading of the results.
        means: mean of the metric over the seeds, in [0, 1]; NaN where there is none.
        stds: its standard deviation over the seeds; NaN with fewer than two seeds, and overall.
        seeds: number of seeds; 0 where there is none.
        informed: whether any of the experiments is test-informed.
        uneven: data sets on which methods have different seeds or normal classes, though not fewer seeds.
    """

    name: str
    title: str
    means: pd.DataFrame
    stds: pd.DataFrame
    seeds: pd.DataFrame
    informed: pd.DataFrame
    uneven: tuple[str, ...] = ()


def read_results(path: Path) -> pd.DataFrame:
    """Read a ``results.csv``, keeping names such as ``007`` or ``NA`` as text.

    Raises:
        DeepSADError: if the file cannot be read.
    """
    try:
        columns = pd.read_csv(path, nrows=0).columns
        blank = {name: [""] if name in ("dataset", "method", "heading") else ["", "nan", "NaN"] for name in columns}
        names = {"dataset": str, "method": str, "heading": str, "hash": str}
        return pd.read_csv(path, dtype=names, keep_default_na=False, na_values=blank, float_precision="round_trip")
    except (OSError, ValueError) as error:
        raise DeepSADError(
            f"the results {path} cannot be read as CSV ({error}); give the results.csv of a study"
        ) from None


def check_results(results: pd.DataFrame, metric: str) -> None:
    """Check that ranks can be made of the results.

    Args:
        results: one row per experiment.
        metric: name of the metric's column.

    Raises:
        DeepSADError: if columns or names are missing, labels are no numbers, or the metric has no values in [0, 1].
    """
    problems = [
        f"the results have no column {name}; they have {', '.join(map(str, results.columns)) or 'none'}"
        for name in dict.fromkeys(("dataset", "method", "labels", "seed", metric))
        if name not in results
    ]
    for name in ("dataset", "method", "seed"):
        blank = int(results[name].isna().sum()) if name in results else 0
        if blank:
            problems.append(f"the results have {counted(blank, 'row')} without a {name}; fill in the column {name}")
    if "labels" in results:
        wrong = results["labels"][pd.to_numeric(results["labels"], errors="coerce").isna() & results["labels"].notna()]
        if len(wrong):
            problems.append(
                f"labels is {wrong.tolist()[0]!r} in the results; it must be a number, or blank for every budget"
            )
    if _INFORMED in results and (other := [text for text in _words(results[_INFORMED]) if text not in _TRUTHS]):
        problems.append(f"{_INFORMED} is {other[0]!r} in the results; it must be true or false, or blank for false")
    if metric in results:
        problems += _problems_of_values(results[metric], metric)
    if problems:
        raise DeepSADError(*problems)


def _problems_of_values(values: "pd.Series[Any]", metric: str) -> list[str]:
    numbers = pd.to_numeric(values, errors="coerce")
    wrong = values[values.notna() & ~numbers.between(0, 1)]
    if len(wrong):
        return [
            f"{metric} is {wrong.tolist()[0]!r} in the results; ranks need a metric in [0, 1] of which more is better"
        ]
    return (
        [] if len(numbers.dropna()) else [f"no experiment has a value of {metric}; run some, or choose another metric"]
    )


def headings(results: pd.DataFrame) -> dict[str, str]:
    """The heading of each method, in the order of the tables: the package's methods first.

    Methods of which several have the same heading are told apart by their names.

    Args:
        results: one row per experiment. A column ``heading`` gives the headings of methods that are not the package's.
    """
    named = results.dropna(subset=["heading"]) if "heading" in results else results.iloc[:0].assign(heading="")
    given = {str(method): str(text) for method, text in zip(named["method"], named["heading"], strict=True)}
    methods = [str(method) for method in dict.fromkeys(results["method"])]
    columns = list(own_columns())
    own_methods = {name: of_method(node) for name, node in own("method").items()}

    def place(method: str) -> int:
        facts = own_methods.get(method)
        return columns.index(column_of(method, facts)) if facts else len(columns)

    found: dict[str, str] = {}
    for method in sorted(methods, key=place):
        facts = own_methods.get(method)
        found[method] = (facts.heading or facts.column or method) if facts else given.get(method) or method
    shared = {text for text in found.values() if list(found.values()).count(text) > 1}
    return {method: method if text in shared else text for method, text in found.items()}


def budgets_of(results: pd.DataFrame, metric: str) -> list[Budget]:
    """The results for each number of labels, in increasing order, and overall if there are several.

    Rows without a number of labels count for every budget in which their method has no rows of its own on that data
    set. Rows of the same seed, such as several normal classes, are averaged before the seeds are. Overall, a cell is
    the mean over the budgets, and blank unless it has a value in each of them.

    Args:
        results: one row per experiment; see :func:`check_results`.
        metric: name of the metric's column.
    """
    names = [name for name in ("dataset", "method", "labels", "seed", _NORMAL, _INFORMED) if name in results]
    found = results[[*names, metric]].rename(columns={metric: "value"})
    found = found.assign(**{name: pd.to_numeric(found[name]) for name in ("labels", "value")})
    found = found.astype({"dataset": str, "method": str})
    datasets, methods = list(dict.fromkeys(found["dataset"])), list(headings(results))
    counts = sorted(found["labels"].dropna().unique())
    if not counts:
        return [_budget("all", "All experiments", found, datasets, methods)]
    general = found[found["labels"].isna()]
    budgets = []
    for labels in counts:
        special = found[found["labels"] == labels]
        keys = set(zip(special["dataset"], special["method"], strict=True))
        is_rest = [key not in keys for key in zip(general["dataset"], general["method"], strict=True)]
        rows = pd.concat([special, general[np.array(is_rest, dtype=bool)]])
        title = f"{value_text(labels)} labeled {'anomaly' if labels == 1 else 'anomalies'}"
        budgets.append(_budget(value_text(labels), title, rows, datasets, methods))
    return [*budgets, _overall(budgets)] if len(budgets) > 1 else budgets


def _budget(name: str, title: str, rows: pd.DataFrame, datasets: list[str], methods: list[str]) -> Budget:
    rows = rows.dropna(subset=["value"])
    per_seed = rows.groupby(["dataset", "method", "seed"], sort=False)["value"].mean()
    cells = per_seed.groupby(level=["dataset", "method"], sort=False).agg(["mean", "std", "count"])

    def frame(column: str) -> pd.DataFrame:
        return cells[column].unstack("method").reindex(index=datasets, columns=methods)

    is_informed = [_TRUTHS[text] for text in _words(rows[_INFORMED])] if _INFORMED in rows else [False] * len(rows)
    informed = rows[is_informed]
    marked = set(zip(informed["dataset"], informed["method"], strict=True))
    marks = [[(dataset, method) in marked for method in methods] for dataset in datasets]
    return Budget(
        *(name, title, frame("mean"), frame("std"), frame("count").fillna(0).astype(int)),
        informed=pd.DataFrame(marks, index=datasets, columns=methods),
        uneven=_uneven(rows),
    )


def _words(values: "pd.Series[Any]") -> list[str]:
    """The cells of a column of booleans as lower-case text; blank ones are empty."""
    return ["" if pd.isna(value) else str(value).strip().lower() for value in values]


def _uneven(rows: pd.DataFrame) -> tuple[str, ...]:
    names = [name for name in ("seed", _NORMAL) if name in rows]
    found = []
    for dataset, of_dataset in rows.groupby("dataset", sort=False):
        methods = [of_method for _, of_method in of_dataset.groupby("method")]
        runs = {frozenset(one[names].fillna("").itertuples(index=False, name=None)) for one in methods}
        if len(runs) > 1 and len({one["seed"].nunique() for one in methods}) == 1:
            found.append(str(dataset))
    return tuple(found)


def _overall(budgets: list[Budget]) -> Budget:
    means = sum((budget.means for budget in budgets[1:]), budgets[0].means) / len(budgets)
    seeds, informed = budgets[0].seeds, budgets[0].informed
    for budget in budgets[1:]:
        seeds = seeds.where(seeds <= budget.seeds, budget.seeds)
        informed = informed | budget.informed
    *names, last = (budget.name for budget in budgets)
    title = f"Overall: mean over {', '.join(names)} and {last} labeled anomalies"
    uneven = tuple(dict.fromkeys(name for budget in budgets for name in budget.uneven))
    return Budget(OVERALL, title, means, means * np.nan, seeds, informed, uneven)
