"""From single experiments to the cells of a table: means, the best of variants, the best column and its test."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from deepsad_pl.report.columns import in_order
from deepsad_pl.report.reference import paper_cell
from deepsad_pl.report.significance import Comparison, compare

DDOF = 1


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
        expected: experiments of the study.
        best: whether no other column of the row has a higher mean.
        significant: whether the difference to the second best is.
        paper: the paper's mean and std, or None.
        borrowed: the column whose experiments are shown, or None.
        protocol: how hyper-parameters were selected, or None; several are joined.
        tried: the variants that the best was taken from, with how many of their experiments are finished and expected.
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
    borrowed: str | None
    protocol: str | None
    tried: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Ranking:
    """The two best columns of a row.

    Attributes:
        dataset: of the row.
        row: the value of each axis.
        best: column with the highest mean; the first of them where several have it.
        second: the next one.
        comparison: of the two, None if they have no experiment in common.
    """

    dataset: str
    row: Mapping[str, Any]
    best: str
    second: str
    comparison: Comparison | None


def make_cells(results: pd.DataFrame, axes: Sequence[str], *, with_paper: bool) -> tuple[list[Cell], list[Ranking]]:
    """All cells, row by row in the table's order, and the two best of each row.

    Args:
        results: see :func:`deepsad_pl.report.write_report`.
        axes: names of the axes.
        with_paper: whether the paper's figures belong beside ours.
    """
    cells: list[Cell] = []
    rankings: list[Ranking] = []
    order = in_order(results["column"])
    for dataset in dict.fromkeys(results["dataset"]):
        of_dataset = results[results["dataset"] == dataset]
        places: dict[tuple[Any, ...], list[int]] = {}
        for place, values in enumerate(_values(of_dataset, axes)):
            places.setdefault(values, []).append(place)
        for values in _in_rising_order(places):
            row = dict(zip(axes, values, strict=True))
            of_row = of_dataset.iloc[places[values]]
            found = {column: of_row[of_row["column"] == column] for column in order}
            tried = {column: _variants(cell) for column, cell in found.items() if len(cell)}
            columns = {column: _best(variants) for column, variants in tried.items()}
            leader, ranking = _leader(columns), _rank(dataset, row, columns)
            if ranking is not None:
                rankings.append(ranking)
            cells += [
                _cell(dataset, row, column, cell, tried[column], ranking, with_paper, best=column == leader)
                for column, cell in columns.items()
            ]
    return cells, rankings


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


def _rank(dataset: str, row: Mapping[str, Any], columns: Mapping[str, pd.DataFrame]) -> Ranking | None:
    means = _competing(columns)
    if len(means) < 2:
        return None
    best, second, *_ = sorted(means, key=lambda column: -means[column])
    return Ranking(dataset, row, best, second, compare(columns[best], columns[second]))


def _cell(
    dataset: str,
    row: Mapping[str, Any],
    column: str,
    found: pd.DataFrame,
    tried: Mapping[str, pd.DataFrame],
    ranking: Ranking | None,
    with_paper: bool,
    *,
    best: bool,
) -> Cell:
    percent = 100 * found["auroc"].dropna()
    protocols = found["protocol"].dropna()
    lender = found["borrowed"].iloc[0]
    return Cell(
        dataset=dataset,
        row=row,
        column=column,
        variant=str(found["variant"].iloc[0]),
        mean=float(percent.mean()),
        std=float(percent.std(ddof=DDOF)),
        n=len(percent),
        expected=len(found),
        best=best,
        significant=bool(best and ranking and ranking.comparison and ranking.comparison.significant),
        paper=paper_cell(dataset, row, column) if with_paper else None,
        borrowed=lender if isinstance(lender, str) else None,
        protocol=", ".join(sorted(set(protocols))) or None,
        tried={name: (int(runs["auroc"].notna().sum()), len(runs)) for name, runs in tried.items()},
    )
