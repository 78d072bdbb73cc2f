"""The paper's result tables (3 to 6), which ship with the package."""

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

# Table 6 has no axis: all its results are at one gamma_l.
_WITHOUT_AXIS = "6"

Key = tuple[str, str, float, str]


@cache
def _tables() -> tuple[dict[Key, tuple[float, float]], dict[tuple[str, str, str], tuple[float, float]]]:
    """Mean and std by (table, data set, value, column), and separately for columns with a single line."""
    cells: dict[Key, tuple[float, float]] = {}
    text = files("deepsad_pl.report").joinpath("paper_tables.csv").read_text(encoding="utf-8")
    for line in csv.DictReader(text.splitlines()):
        key = (line["table"], line["dataset"], float(line["value"]), line["method"])
        cells[key] = float(line["auroc_mean"]), float(line["auroc_std"])
    columns: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for (table, dataset, _, column), cell in cells.items():
        columns.setdefault((table, dataset, column), []).append(cell)
    return cells, {key: found[0] for key, found in columns.items() if len(found) == 1}


_TABLE_OF = {(): _WITHOUT_AXIS, ("gamma_l",): "3", ("gamma_p",): "4", ("k_l",): "5"}


def paper_cell(dataset: str, row: Mapping[str, float], column: str) -> tuple[float, float] | None:
    """The paper's mean and standard deviation of a cell, in percent, or None if it has no such cell.

    An unsupervised method has a single result per table and data set, which is returned for every row.

    Args:
        dataset: name of the data set.
        row: the value of each axis of the study.
        column: column of the table.
    """
    table = _TABLE_OF.get(tuple(row))
    if table is None:
        return None
    cells, only = _tables()
    if table == _WITHOUT_AXIS:
        return only.get((table, dataset, column))
    (value,) = row.values()
    if (found := cells.get((table, dataset, float(value), column))) is not None:
        return found
    is_row = any(key[:2] == (table, dataset) and key[2] == float(value) for key in cells)
    return only.get((table, dataset, column)) if is_row else None


def paper_lines() -> Sequence[tuple[Key, tuple[float, float]]]:
    """Every line of the tables: (table, data set, value, column) and (mean, std)."""
    return list(_tables()[0].items())
