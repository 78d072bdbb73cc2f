"""From single experiments to the cells of a table: means, the best of variants, the best column and its test."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from deepsad_pl.report.columns import in_order
from deepsad_pl.report.reference import paper_cell
from deepsad_pl.report.significance import ALPHA, Comparison, compare, holm, lowest_p

DDOF = 1

# Why a figure is test-informed.
BEST_VARIANT, SELECTION, LEARNING_RATE = "best_variant", "selection", "learning_rate"
# The protocol of selection that does.
LOOKS_AT_TEST_LABELS = "test_subset"


@dataclass(frozen=True)
class Cell:
    """A cell of the table.

    Attributes:
        dataset: of the row.
        row: the value of each axis.
        column: of the table.
        variant: what was run; the best where the column has several.
        mean: AUROC in percent; NaN if nothing is finished.
        std: with ddof 1; NaN with fewer than two experiments.
        n: finished experiments.
        expected: experiments that were asked for.
        best: whether no other column of the row has a higher mean.
        significant: whether it is significantly better than the second best.
        paper: the paper's mean and std, or None.
        paper_n: how many experiments of the study the paper's figure stands for.
        borrowed: the column whose experiments are shown, or None.
        protocol: how hyper-parameters were selected, or None; several are joined.
        tried: the variants that the best was taken from, with how many of their experiments are finished and expected.
        test_informed: which choices behind the mean looked at test labels: :data:`BEST_VARIANT`, the highest mean of
            several variants; :data:`SELECTION`, of hyper-parameters; :data:`LEARNING_RATE`, that of the data set.
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


@dataclass(frozen=True)
class Ranking:
    """The two best columns of a row.

    Attributes:
        dataset: of the row.
        row: the value of each axis.
        best: column with the highest mean; the first of them where several have it.
        second: the next one.
        comparison: of the two, None if they have no experiment in common.
        p_holm: its p-value, adjusted for all comparisons of the table.
        lowest: the lowest adjusted p-value that so few units can have.
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
        """Whether the best column is the better one in the median, too, at an adjusted p below alpha = .05."""
        return self.comparison is not None and self.comparison.median_difference > 0 and self.p_holm < ALPHA


def make_cells(results: pd.DataFrame, axes: Sequence[str], *, with_paper: bool) -> tuple[list[Cell], list[Ranking]]:
    """All cells, row by row in the table's order, and the two best of each row.

    Args:
        results: see :func:`deepsad_pl.report.write_report`.
        axes: names of the axes.
        with_paper: whether the paper's figures belong beside ours.
    """
    rows = list(_rows(results, axes))
    rankings = _adjusted(filter(None, map(_rank, rows)))
    significant = [(r.dataset, r.row, r.best) for r in rankings if r.significant]
    cells: list[Cell] = []
    for row in rows:
        leader = _leader(row.columns)
        for column in row.columns:
            star = (row.dataset, row.values, column) in significant
            cells.append(_cell(row, column, with_paper, best=column == leader, significant=star))
    return cells, rankings


@dataclass(frozen=True)
class _Row:
    """The experiments of a row: of each column's variants, and of the variant that each column shows."""

    dataset: str
    values: Mapping[str, Any]
    tried: Mapping[str, Mapping[str, pd.DataFrame]]
    columns: Mapping[str, pd.DataFrame]


def _rows(results: pd.DataFrame, axes: Sequence[str]) -> Iterator[_Row]:
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
            columns = {column: _best(variants) for column, variants in tried.items()}
            yield _Row(dataset, dict(zip(axes, values, strict=True)), tried, columns)


def _values(results: pd.DataFrame, axes: Sequence[str]) -> list[tuple[Any, ...]]:
    """The values of the axes in each row, as Python has them; None where there is none."""
    # A null makes NaN of itself in a column of numbers, and NaN is not equal to itself.
    columns = [[None if pd.isna(value) else value for value in results[axis].tolist()] for axis in axes]
    return list(zip(*columns, strict=True)) if axes else [()] * len(results)


def _in_rising_order(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows by their numbers; what is no number keeps its order of appearance, after them."""
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
    return {str(name): cell[cell["variant"] == name].drop_duplicates("experiment") for name in names}


def _mean(experiments: pd.DataFrame) -> float:
    """Of the finished ones; equal up to rounding is equal."""
    return round(float(experiments["auroc"].mean()), 12)


def _best(variants: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The variant with the highest mean, the first one if none has any."""
    return max(variants.values(), key=lambda found: _mean(found) if found["auroc"].notna().any() else -1.0)


def _competing(columns: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """The means of the columns that have one of their own, the first first where they are equal."""
    means: dict[str, float] = {}
    for column, cell in columns.items():
        lender = cell["borrowed"].iloc[0]
        if cell["auroc"].notna().any() and not (isinstance(lender, str) and lender in columns):
            means[column] = _mean(cell)
    return means


def _leader(columns: Mapping[str, pd.DataFrame]) -> str | None:
    means = _competing(columns)
    return max(means, key=lambda column: means[column]) if means else None


def _rank(row: _Row) -> Ranking | None:
    means = _competing(row.columns)
    if len(means) < 2:
        return None
    best, second, *_ = sorted(means, key=lambda column: -means[column])
    return Ranking(row.dataset, row.values, best, second, compare(row.columns[best], row.columns[second]))


def _adjusted(rankings: Iterable[Ranking]) -> list[Ranking]:
    """The rankings with p-values that account for all comparisons of the table."""
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


def _cell(row: _Row, column: str, with_paper: bool, *, best: bool, significant: bool) -> Cell:
    found, tried = row.columns[column], row.tried[column]
    percent = 100 * found["auroc"].dropna()
    protocols = found["protocol"].dropna()
    lender = found["borrowed"].iloc[0]
    return Cell(
        dataset=row.dataset,
        row=row.values,
        column=column,
        variant=str(found["variant"].iloc[0]),
        mean=float(percent.mean()),
        std=float(percent.std(ddof=DDOF)),
        n=len(percent),
        expected=len(found),
        best=best,
        significant=significant,
        paper=paper_cell(row.dataset, row.values, column) if with_paper else None,
        paper_n=int(found["paper_n"].iloc[0]),
        borrowed=lender if isinstance(lender, str) else None,
        protocol=", ".join(sorted(set(protocols))) or None,
        tried={name: (int(runs["auroc"].notna().sum()), len(runs)) for name, runs in tried.items()},
        test_informed=_test_informed(found, tried),
    )


def _test_informed(found: pd.DataFrame, tried: Mapping[str, pd.DataFrame]) -> tuple[str, ...]:
    finished = found[found["auroc"].notna()]
    reasons = {
        BEST_VARIANT: sum(runs["auroc"].notna().any() for runs in tried.values()) > 1,
        SELECTION: (finished["protocol"] == LOOKS_AT_TEST_LABELS).any(),
        LEARNING_RATE: finished["lr_from_test"].any(),
    }
    return tuple(reason for reason, holds in reasons.items() if holds)
