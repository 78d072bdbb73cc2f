"""Aggregate experiments into the cells of a table: means, best variants, best columns and their tests."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from deepsad_pl.common.records import LOOKS_AT_TEST_LABELS
from deepsad_pl.report.columns import in_order
from deepsad_pl.report.measure import AUROC, Measure, measure_of
from deepsad_pl.report.reference import paper_cell
from deepsad_pl.report.significance import ALPHA, Comparison, compare, holm, lowest_p, side_by_side
from deepsad_pl.report.standard_error import standard_error, verdict

DDOF = 1

# The reasons why a result is test-informed.
BEST_VARIANT, SELECTION, LEARNING_RATE, SETTING = "best_variant", "selection", "learning_rate", "setting"
# The column of the metric that a table shows.
_VALUE = "value"
# Data set, values of the axes and column of a cell.
Place = tuple[str, tuple[Any, ...], str]


@dataclass(frozen=True)
class Cell:
    """A cell of the table.

    Attributes:
        dataset: data set of the row.
        row: the value of each axis.
        column: column of the table.
        variant: the variant of the method; the best one if the column has several.
        mean: mean of the metric, in percent if it is one of the package's; NaN if nothing is finished.
        std: standard deviation with ddof 1, likewise; NaN with fewer than two experiments.
        n: number of finished experiments that have the metric.
        expected: number of requested experiments, without finished ones in which the metric is blank.
        best: whether no other column of the row has a higher mean over the experiments that all of them have finished;
            False if there are none.
        significant: whether it is significantly better than the second-best column.
        paper: the paper's mean and std in percent, or None.
        paper_n: number of experiments of the study behind the paper's value.
        borrowed: the column whose experiments are shown, or None.
        protocol: how hyper-parameters were selected, or None; several protocols are joined.
        tried: the variants from which the best was chosen, each with its numbers of finished and expected experiments.
        test_informed: the choices behind the mean that used test labels: :data:`BEST_VARIANT`, the variant with the
            highest mean; :data:`SELECTION`, the hyper-parameters; :data:`LEARNING_RATE`, the data set's learning rate;
            :data:`SETTING`, another setting of the method.
        measure: the metric.
        error: standard error of the mean, in the unit of ``mean``; NaN if the cell has none, see :func:`make_cells`.
        pairs: number of units of the standard error: pairs of a normal and a known class, whose seeds are averaged
            first, or of a normal class and a seed if the seed draws the known classes.
        population: number of pairs from which those of the cell were sampled; None if they were not.
        as_paper: whether its experiments were drawn from the same classes as those of the paper's cell.
        experiments: the finished experiments, with ``normal_class``, ``anomaly_class``, ``seed`` and ``value``, the
            metric in the unit of ``mean``.
    """

    dataset: str
    row: Mapping[str, Any]
    column: str
    variant: str
    mean: float
    std: float
    n: int
    expected: int
    best: bool
    significant: bool
    paper: tuple[float, float] | None
    paper_n: int
    borrowed: str | None
    protocol: str | None
    tried: Mapping[str, tuple[int, int]]
    test_informed: tuple[str, ...]
    measure: Measure = AUROC
    error: float = math.nan
    pairs: int = 0
    population: int | None = None
    as_paper: bool = True
    experiments: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False, repr=False)

    @property
    def text(self) -> str:
        """Mean and standard deviation, as a table shows them."""
        return self.measure.plus_minus(self.mean, self.std)

    @property
    def place(self) -> Place:
        """Data set, values of the axes and column."""
        return self.dataset, tuple(self.row.values()), self.column

    @property
    def verdict(self) -> str | None:
        """Whether the paper's mean lies within two standard errors of ours.

        None if it cannot be said, or if the paper's mean is over other experiments than ours were drawn from.
        """
        if self.paper is None or not self.as_paper or (self.population or self.pairs) != self.paper_n:
            return None
        return verdict(self.mean, self.error, self.paper[0])


@dataclass(frozen=True)
class Ranking:
    """The two best columns of a row.

    Attributes:
        dataset: data set of the row.
        row: the value of each axis.
        best: column with the highest mean over the experiments that all columns have finished, or over its own if there
            are none; the first one if several columns share it.
        second: column with the second-highest mean, likewise.
        comparison: test of the two columns on the experiments that both have; None if all columns of the row have none
            in common.
        p_holm: p-value of the comparison, adjusted for all comparisons of the table.
        lowest: lowest adjusted p-value that is possible with this number of units.
    """

    dataset: str
    row: Mapping[str, Any]
    best: str
    second: str
    comparison: Comparison | None
    p_holm: float = 1.0
    lowest: float = 1.0

    @property
    def significant(self) -> bool:
        """Whether the best column also has the better median and the adjusted p-value is below alpha = .05."""
        return self.comparison is not None and self.comparison.median_difference > 0 and self.p_holm < ALPHA


def make_cells(
    results: pd.DataFrame,
    axes: Sequence[str],
    *,
    with_paper: bool,
    metric: str = "auroc",
    variants: Mapping[Place, str] | None = None,
) -> tuple[list[Cell], list[Ranking]]:
    """Make all cells, row by row in the table's order, and the ranking of each row's two best columns.

    A cell over several normal classes has a standard error if all of its experiments are finished, since those that
    finish first are no random sample, and if none of them were sampled or all were, from the same pairs. Several seeds
    of a pair of classes are no further draws, so they are averaged first.

    Args:
        results: see :func:`deepsad_pl.report.write_report`.
        axes: names of the axes.
        with_paper: whether to show the paper's results beside ours.
        metric: the column of ``results`` that the cells show; more is better.
        variants: the variant that each cell shows; None: the one with the highest mean.
    """
    results = results.assign(**{_VALUE: results[metric].astype(float)})
    if "finished" not in results:
        results["finished"] = results[_VALUE].notna()
    rows, measure = list(_rows(results, axes, variants or {})), measure_of(metric)
    rankings = _adjusted(filter(None, map(_rank, rows)))
    significant = [(r.dataset, r.row, r.best) for r in rankings if r.significant]
    cells: list[Cell] = []
    for row in rows:
        leaders = _leaders(row.columns)
        for column in row.columns:
            star = (row.dataset, row.values, column) in significant
            cells.append(_cell(row, column, measure, with_paper, best=column in leaders, significant=star))
    return cells, rankings


@dataclass(frozen=True)
class _Row:
    """The experiments of a row, for all variants of each column and for the variant that each column shows."""

    dataset: str
    values: Mapping[str, Any]
    tried: Mapping[str, Mapping[str, pd.DataFrame]]
    columns: Mapping[str, pd.DataFrame]


def _rows(results: pd.DataFrame, axes: Sequence[str], shown: Mapping[Place, str]) -> Iterator[_Row]:
    order = in_order(results["column"])
    for dataset in dict.fromkeys(results["dataset"]):
        of_dataset = results[results["dataset"] == dataset]
        places: dict[tuple[Any, ...], list[int]] = {}
        for place, values in enumerate(_values(of_dataset, axes)):
            places.setdefault(values, []).append(place)
        for values in _in_rising_order(places):
            of_row = of_dataset.iloc[places[values]]
            found = {column: of_row[of_row["column"] == column] for column in order}
            tried = {column: _variants(cell) for column, cell in found.items() if len(cell)}
            columns = {
                column: variants.get(shown.get((dataset, values, column), ""), _best(variants))
                for column, variants in tried.items()
            }
            yield _Row(dataset, dict(zip(axes, values, strict=True)), tried, columns)


def _values(results: pd.DataFrame, axes: Sequence[str]) -> list[tuple[Any, ...]]:
    """The values of the axes in each row, as Python objects; None if missing."""
    # pandas stores null as NaN in a column of numbers, and NaN is not equal to itself.
    columns = [[None if pd.isna(value) else value for value in results[axis].tolist()] for axis in axes]
    return list(zip(*columns, strict=True)) if axes else [()] * len(results)


def _in_rising_order(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Sort rows by their numbers; values that are not numbers follow in their order of appearance."""
    rows = list(rows)
    seen = [list(dict.fromkeys(values)) for values in zip(*rows, strict=True)]

    def place(row: tuple[Any, ...]) -> list[tuple[bool, float]]:
        return [
            (False, value) if isinstance(value, int | float) else (True, seen[axis].index(value))
            for axis, value in enumerate(row)
        ]

    return sorted(rows, key=place)


def _variants(cell: pd.DataFrame) -> dict[str, pd.DataFrame]:
    names = dict.fromkeys(cell["variant"])
    # An experiment that stands for several known classes counts once for each of them.
    same = [key for key in ("experiment", "known") if key in cell]
    return {str(name): cell[cell["variant"] == name].drop_duplicates(same) for name in names}


def _mean(values: pd.Series) -> float:
    """The mean of the finished experiments, rounded so that means equal up to rounding errors are equal."""
    return round(float(values.mean()), 12)


def _best(variants: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The variant with the highest mean; the first one if no variant has a mean.

    Of variants that were run for different experiments, those that all of them have decide, if there are any.
    """
    finished = {name: found for name, found in variants.items() if found[_VALUE].notna().any()}
    if not finished:
        return next(iter(variants.values()))
    means = _common_means(finished) or {name: _mean(found[_VALUE]) for name, found in finished.items()}
    return finished[max(means, key=lambda name: means[name])]


def _competing(columns: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """All columns that have finished experiments of their own."""
    found: dict[str, pd.DataFrame] = {}
    for column, cell in columns.items():
        lender = cell["borrowed"].iloc[0]
        if cell[_VALUE].notna().any() and not (isinstance(lender, str) and lender in columns):
            found[column] = cell
    return found


def _common_means(cells: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """The mean of each cell over the experiments that all have finished; empty if there are none."""
    if not cells or (values := side_by_side(cells, _VALUE)).empty:
        return {}
    return {name: _mean(values[name]) for name in cells}


def _leaders(columns: Mapping[str, pd.DataFrame]) -> list[str]:
    means = _common_means(_competing(columns))
    return [column for column, mean in means.items() if mean == max(means.values())]


def _rank(row: _Row) -> Ranking | None:
    competing = _competing(row.columns)
    if len(competing) < 2:
        return None
    common = _common_means(competing)
    means = common or {column: _mean(cell[_VALUE]) for column, cell in competing.items()}
    best, second, *_ = sorted(means, key=lambda column: -means[column])
    comparison = compare(competing[best], competing[second], _VALUE) if common else None
    return Ranking(row.dataset, row.values, best, second, comparison)


def _adjusted(rankings: Iterable[Ranking]) -> list[Ranking]:
    """Adjust the p-values of the rankings for all comparisons of the table."""
    rankings = list(rankings)
    tested = [ranking.comparison for ranking in rankings if ranking.comparison is not None]
    adjusted = zip(holm([test.p for test in tested]), holm([lowest_p(test.n) for test in tested]), strict=True)
    made = []
    for ranking in rankings:
        if ranking.comparison is not None:
            p, lowest = next(adjusted)
            ranking = replace(ranking, p_holm=p, lowest=lowest)
        made.append(ranking)
    return made


def _cell(row: _Row, column: str, measure: Measure, with_paper: bool, *, best: bool, significant: bool) -> Cell:
    found, tried = row.columns[column], row.tried[column]
    shown = measure.factor * found[_VALUE].dropna()
    protocols = found["protocol"].dropna()
    lender = found["borrowed"].iloc[0]
    population, by_pair = _population(found), _by_pair(found, shown)
    return Cell(
        dataset=row.dataset,
        row=row.values,
        column=column,
        variant=str(found["variant"].iloc[0]),
        mean=float(shown.mean()),
        std=float(shown.std(ddof=DDOF)),
        n=len(shown),
        expected=_expected(found),
        best=best,
        significant=significant,
        paper=paper_cell(row.dataset, row.values, column) if with_paper else None,
        paper_n=int(found["paper_n"].iloc[0]),
        borrowed=lender if isinstance(lender, str) else None,
        protocol=", ".join(sorted(set(protocols))) or None,
        tried={name: (int(runs[_VALUE].notna().sum()), _expected(runs)) for name, runs in tried.items()},
        test_informed=_test_informed(found, tried),
        measure=measure,
        error=_error(found, by_pair, population),
        pairs=len(by_pair),
        population=population,
        as_paper="as_paper" not in found or bool(found["as_paper"].all()),
        experiments=found.loc[shown.index, ["normal_class", "anomaly_class", "seed"]].assign(value=shown),
    )


def _population(found: pd.DataFrame) -> int | None:
    """The number of pairs from which all experiments of a cell were sampled; None if there is no such number."""
    of = set(found["population"]) if "population" in found else {None}
    one = of.pop()
    return None if of or pd.isna(one) else int(one)


def _by_pair(found: pd.DataFrame, shown: pd.Series) -> pd.Series:
    """The means of the pairs that were drawn, or all values if each seed draws the known classes anew."""
    seed_draws = found["seed_draws"].all() if "seed_draws" in found else found["anomaly_class"].isna().all()
    if seed_draws:
        return shown
    classes = found.loc[shown.index, ["normal_class", "anomaly_class"]].astype(object).fillna("")
    return shown.groupby([classes[name] for name in classes], sort=False).mean()


def _error(found: pd.DataFrame, by_pair: pd.Series, population: int | None) -> float:
    drawn = [name for name in ("population", "drawn_from") if name in found]
    is_mixed = "population" not in found or any(found[name].nunique(dropna=False) > 1 for name in drawn)
    unfinished = found[_VALUE].isna() & ~found["finished"].astype(bool)
    if is_mixed or found["normal_class"].nunique() < 2 or unfinished.any():
        return math.nan
    # Commands that narrowed the study to other classes each drew from fewer pairs than all of them together.
    if population is not None and len(by_pair) > population:
        return math.nan
    return standard_error(float(by_pair.std(ddof=DDOF)), len(by_pair), population)


def _expected(runs: pd.DataFrame) -> int:
    """The number of experiments that have the metric or are not finished."""
    return int((runs[_VALUE].notna() | ~runs["finished"].astype(bool)).sum())


def _test_informed(found: pd.DataFrame, tried: Mapping[str, pd.DataFrame]) -> tuple[str, ...]:
    finished = found[found[_VALUE].notna()]
    reasons = {
        BEST_VARIANT: sum(runs[_VALUE].notna().any() for runs in tried.values()) > 1,
        SELECTION: (finished["protocol"] == LOOKS_AT_TEST_LABELS).any(),
        LEARNING_RATE: finished["lr_from_test"].any(),
        SETTING: "setting_from_test" in finished and finished["setting_from_test"].any(),
    }
    return tuple(reason for reason, holds in reasons.items() if holds)
