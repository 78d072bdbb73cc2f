"""The page of a benchmark as HTML: charts with tooltips, tables to sort and filter, and links to the runs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepsad_pl.common.counting import counted
from deepsad_pl.common.records import APART, METRICS
from deepsad_pl.pages.metric_names import METRIC_NAMES
from deepsad_pl.pages.render import render
from deepsad_pl.pages.tables import Cell, Table, number_cell
from deepsad_pl.report.benchmark_results import OVERALL, budgets_of
from deepsad_pl.report.columns import value_text
from deepsad_pl.report.measure import measure_of
from deepsad_pl.report.rank_statistics import RankStatistics
from deepsad_pl.report.ranks_charts import curves, diagram, labels_of
from deepsad_pl.report.ranks_markdown import about_ranks, gap_sentences, informed_sentences, test_sentences
from deepsad_pl.report.run_cell import run_cell

_RUNS = "experiments"
_DIGITS = 10
# A data set, a method and a number of labels as text; of the experiments without one, "".
_Group = tuple[str, str, str]


def ranks_html(
    folder: Path,
    title: str,
    found: Sequence[RankStatistics],
    results: pd.DataFrame,
    metric: str,
    headings: Mapping[str, str],
    *,
    figures: Mapping[str, str],
    runs: Mapping[str, Path],
    progress: str,
    run_with: str,
) -> str:
    """The page of a benchmark as HTML.

    Args:
        folder: folder of the page; links to the runs are relative to it.
        title: title of the benchmark.
        found: statistics of each label budget.
        results: its experiments, see :func:`deepsad_pl.report.ranks_page.write_ranks`.
        metric: the column of ``results`` that is ranked.
        headings: the name of each method.
        figures: the file of the critical-difference diagram by the name of the budget, for those that have one.
        runs: the run folder of each experiment that has one here, by its ``hash``.
        progress: how much of the benchmark is finished; empty if that is not known.
        run_with: settings that differ from the benchmark's own; may be empty.
    """
    name = measure_of(metric).label
    keys = [results[column] for column in ("dataset", "method", "labels")]
    size = f"{counted(results['dataset'].nunique(), 'data set')}, {counted(results['method'].nunique(), 'method')}"
    found_groups = dict.fromkeys(_group(*key) for key in zip(*keys, strict=True))
    groups = {group: f"cell-{number}" for number, group in enumerate(found_groups)}
    return render(
        "ranks.html",
        title=title,
        lead="; ".join(
            filter(
                None,
                [progress or counted(len(results), "experiment"), size, f"run with {run_with}" if run_with else ""],
            )
        ),
        about=about_ranks(name, "Lines through points"),
        diagrams=[diagram(one, name, headings) for one in found if one.friedman],
        curves=curves([one.budget for one in found if one.budget.name != OVERALL], name, headings),
        figures=[(one.budget.title, figures[one.budget.name]) for one in found if one.budget.name in figures],
        ranks=_ranks(found, name, headings),
        table=_table([one for one in found if one.budget.name != OVERALL], results, metric, headings, groups),
        pairs=_pairs(found, name, headings),
        notes=[(one.budget.title, _notes(one, headings)) for one in found],
        runs=_runs(folder, results, metric, headings, groups, runs),
    )


def _ranks(found: Sequence[RankStatistics], metric: str, headings: Mapping[str, str]) -> Table:
    """A row per method, the best of the last budget first: mean rank and mean metric for each number of labels."""
    last = list(map(str, found[-1].summary.index))
    several = len(found) > 1
    columns = ["method"]
    for one in found:
        of = f", {labels_of(one.budget)}" if several else ""
        columns += [f"mean rank{of}", f"{metric} in %{of}"]
    rows = []
    for method in [*last, *(name for name in headings if name not in last)]:
        row = [Cell(headings[method])]
        for one in found:
            # A budget in which no data set has a value of every method ranks none.
            known: Any = one.summary.loc[method] if method in one.summary.index and len(one.ranks) else None
            best = known is not None and known["rank"] == one.summary["rank"].min()
            row.append(Cell("") if known is None else _marked(known["rank"], ".2f", best))
            row.append(number_cell(None if known is None else 100 * known["mean"], ".1f"))
        rows.append(row)
    return Table("Mean ranks", columns, rows, frozenset(range(1, len(columns))), has_filter=True)


def _marked(value: float, form: str, is_best: bool, informed: bool = False) -> Cell:
    return Cell(format(value, form) + ("†" if informed else "") + (" (best)" if is_best else ""), float(value))


def _table(
    found: Sequence[RankStatistics],
    results: pd.DataFrame,
    metric: str,
    headings: Mapping[str, str],
    groups: Mapping[_Group, str],
) -> Table:
    """A row per data set, number of labels and method: the ranked metric, its rank and the means of other metrics."""
    others = [name for name in METRICS if name != metric and _is_shown(results, name)]
    means = {name: budgets_of(results, name) for name in others}
    labels = [METRIC_NAMES[name][0] for name in others]
    columns = ["data set", "labels", "method", f"{measure_of(metric).label} in %", "std", "rank", *labels, "seeds"]
    rows = []
    for place, one in enumerate(found):
        budget = one.budget
        for dataset in map(str, budget.means.index):
            of_dataset = [_at(budget.means, dataset, str(method)) for method in budget.means.columns]
            best = round(max(filter(math.isfinite, of_dataset), default=math.nan), _DIGITS)
            for method in map(str, budget.means.columns):
                seeds = int(_at(budget.seeds, dataset, method))
                if not seeds:
                    continue
                mean, std = (_at(frame, dataset, method) for frame in (budget.means, budget.stds))
                mark: Any = budget.informed.loc[dataset, method]
                is_ranked = dataset in one.ranks.index and method in one.ranks
                group = groups.get((dataset, method, budget.name)) or groups[dataset, method, ""]
                rows.append(
                    [
                        Cell(dataset),
                        Cell(budget.name, float(budget.name) if budget.name.isdecimal() else None),
                        Cell(headings[method]),
                        _marked(round(100 * mean, 4), ".1f", round(mean, _DIGITS) == best, bool(mark)),
                        _number(100 * std),
                        _number(_at(one.ranks, dataset, method) if is_ranked else np.nan, "g"),
                        *(_number(100 * _at(means[name][place].means, dataset, method)) for name in others),
                        Cell(str(seeds), float(seeds), f"#{_RUNS}", group),
                    ]
                )
    numbers = frozenset({1, *range(3, len(columns))})
    return Table("Results", columns, rows, numbers, has_filter=True)


def _is_shown(results: pd.DataFrame, name: str) -> bool:
    """Whether a metric has values; known and novel anomalies only where an experiment has both."""
    needed = list(APART) if name in APART else [name]
    return {*needed} <= {*results} and bool(results[needed].notna().all(axis=1).any())


def _at(frame: pd.DataFrame, dataset: str, method: str) -> float:
    value: Any = frame.loc[dataset, method]
    return float(value)


def _number(value: float, form: str = ".1f") -> Cell:
    return number_cell(None if np.isnan(value) else round(float(value), 4), form)


def _pairs(found: Sequence[RankStatistics], metric: str, headings: Mapping[str, str]) -> Table | None:
    """Every pair of methods for each number of labels; None if none was tested."""
    columns = ["labels", "better", "other", "wins", "ties", "losses", f"median difference in {metric}"]
    columns += ["adjusted p (Wilcoxon)", "p (Nemenyi)"]
    rows = [
        [
            Cell(one.budget.name, float(one.budget.name) if one.budget.name.isdecimal() else None),
            Cell(headings[str(pair["better"])]),
            Cell(headings[str(pair["other"])]),
            *(number_cell(float(pair[name]), ".0f") for name in ("wins", "ties", "losses")),
            _number(100 * pair["median_difference"], "+.1f"),
            *(number_cell(float(f"{pair[name]:.4g}"), ".4g") for name in ("p_holm", "p_nemenyi")),
        ]
        for one in found
        for pair in one.pairs.to_dict("records")
    ]
    numbers = frozenset({0, *range(3, len(columns))})
    return Table("Pairs of methods", columns, rows, numbers, has_filter=True) if rows else None


def _notes(found: RankStatistics, headings: Mapping[str, str]) -> list[str]:
    """The sentences about a budget; the pairs that differ have a table of their own."""
    told = [*test_sentences(found, headings), *gap_sentences(found, headings), *informed_sentences(found, headings)]
    return [text.partition("\n")[0] for text in told]


def _group(dataset: str, method: str, labels: Any) -> _Group:
    return str(dataset), str(method), "" if pd.isna(labels) else value_text(float(labels))


def _runs(
    folder: Path,
    results: pd.DataFrame,
    metric: str,
    headings: Mapping[str, str],
    groups: Mapping[_Group, str],
    runs: Mapping[str, Path],
) -> Table:
    """The experiments that have a value, each with a link to its page, if it was run here."""
    shown = results[results[metric].notna()]
    columns = ["data set", "labels", "method", "seed", metric, *(["run"] if runs else [])]
    rows, of_rows = [], []
    for one in shown.to_dict("records"):
        group = _group(one["dataset"], one["method"], one["labels"])
        rows.append(
            [
                Cell(group[0]),
                Cell(group[2], float(group[2]) if group[2] else None),
                Cell(headings[group[1]]),
                number_cell(one["seed"], ".0f"),
                number_cell(round(float(one[metric]), 6)),
            ]
        )
        if runs:
            run = runs.get(str(one["hash"]))
            rows[-1].append(Cell("") if run is None else run_cell(folder, run))
        of_rows.append(groups[group])
    return Table("Experiments", columns, rows, frozenset({1, 3, 4}), has_filter=True, anchor=_RUNS, groups=of_rows)
