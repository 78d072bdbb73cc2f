"""The page of a study: its table beside the paper's, figures with a tooltip at each point, and links to the runs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepsad_pl.common.counting import counted
from deepsad_pl.pages.charts import Chart, Line, Look, line_chart
from deepsad_pl.pages.render import render
from deepsad_pl.pages.styles import Style
from deepsad_pl.pages.tables import Cell, Table, number_cell
from deepsad_pl.pages.ticks import named_scale, scale
from deepsad_pl.report.cells import Cell as Result
from deepsad_pl.report.cells import Ranking
from deepsad_pl.report.columns import describe, heading, in_order, value_text
from deepsad_pl.report.page_style import page_styles
from deepsad_pl.report.run_cell import run_cell

_RUNS = "experiments"
# Data set, values of the axes, column and variant.
Variant = tuple[str, tuple[Any, ...], str, str]


def study_page(
    folder: Path,
    title: str,
    cells: Sequence[Result],
    rankings: Sequence[Ranking],
    results: pd.DataFrame,
    axes: Sequence[str],
    *,
    metric: str,
    notes: Sequence[str],
    run_with: str,
) -> str:
    """The page of a study as HTML.

    Args:
        folder: folder of the page; links to the runs are relative to it.
        title: title of the study.
        cells: cells of its table.
        rankings: comparison of the best and second-best column of each row.
        results: its experiments, see :func:`deepsad_pl.report.write_report`.
        axes: names of the axes.
        metric: the column of ``results`` that is shown.
        notes: sentences beneath the table.
        run_with: settings that differ from the study's own; may be empty.
    """
    finished, expected = sum(cell.n for cell in cells), sum(cell.expected for cell in cells)
    # A cell links only to experiments of the variant that it shows.
    groups = {(*cell.place, cell.variant): f"cell-{number}" for number, cell in enumerate(cells)}
    return render(
        "study.html",
        title=title,
        lead=f"{finished:,} of {counted(expected, 'result')} finished" + (f"; run with {run_with}" if run_with else ""),
        charts=_charts(cells, axes),
        has_paper=any(cell.paper for cell in cells),
        table=_table(cells, axes, groups),
        tests=_tests(rankings, axes),
        notes=notes,
        runs=_runs(folder, results, axes, metric, groups),
    )


def _charts(cells: Sequence[Result], axes: Sequence[str]) -> list[Chart]:
    """A chart for each data set and combination of further axes: the means over the first axis, if there is one."""
    panels: dict[tuple[str, str], list[Result]] = {}
    for cell in cells:
        if cell.n:
            where = describe({axis: cell.row[axis] for axis in axes[1:]})
            panels.setdefault((cell.dataset, where), []).append(cell)
    return [_chart(", ".join(filter(None, names)), found, axes) for names, found in panels.items()]


def _chart(title: str, cells: Sequence[Result], axes: Sequence[str]) -> Chart:
    measure = cells[0].measure
    over = [value_text(cell.row[axes[0]]) if axes else "" for cell in cells]
    places = list(dict.fromkeys(over))
    lines, marks = [], list[tuple[float, float, str, Style, Look]]()
    columns = in_order(cell.column for cell in cells)
    for column, style in page_styles(dict(zip(columns, columns, strict=True))).items():
        found = [(places.index(at), cell) for at, cell in zip(over, cells, strict=True) if cell.column == column]
        x = np.array([at for at, _ in found], np.float64)
        y = np.array([cell.mean for _, cell in found])
        lines.append(Line(heading(column), style, x, y, [_tip(cell) for _, cell in found], points="filled"))
        for at, cell in found:
            if cell.paper is not None:
                tip = f"{heading(column)}, {describe(cell.row)}: the paper has {measure.plus_minus(*cell.paper)}"
                marks.append((float(at), cell.paper[0], tip, style, "hollow"))
    values = [*(cell.mean for cell in cells), *(mark[1] for mark in marks)]
    low, high = min(values), max(values)
    room = 0.06 * (high - low or 1)
    return line_chart(
        title,
        f"{measure.unit} of {counted(len(lines), 'method')}: {'; '.join(_tip(cell) for cell in cells[:40])}",
        lines,
        x=named_scale(places),
        y=scale(low - room, min(high + room, max(measure.highest, high))),
        x_label=axes[0] if axes else "",
        y_label=measure.unit,
        marks=marks,
    )


def _tip(cell: Result) -> str:
    where = ", ".join(filter(None, (heading(cell.column), describe(cell.row))))
    return f"{where}: {cell.text} (n {cell.n})"


def _table(cells: Sequence[Result], axes: Sequence[str], groups: Mapping[Variant, str]) -> Table:
    has_paper = any(cell.paper for cell in cells)
    has_error = any(not math.isnan(cell.error) for cell in cells)
    columns = ["data set", *axes, "method", "mean", "std", *(["SE"] if has_error else [])]
    columns += ["paper", "paper std", "difference"] if has_paper else []
    rows = []
    for cell in cells:
        mean = _number(cell.mean)
        row = [
            Cell(cell.dataset),
            *map(_value, cell.row.values()),
            Cell(heading(cell.column) + (" (best)" if cell.best else "")),
            Cell(mean.text + ("*" if cell.significant else "") + ("†" if cell.test_informed else ""), mean.value),
            _number(cell.std),
            *([_number(cell.error, ".2f")] if has_error else []),
        ]
        if has_paper:
            paper, std = cell.paper or (math.nan, math.nan)
            row += [_number(paper), _number(std), _number(cell.mean - paper, "+.1f")]
        told = f"{cell.n}" if cell.n == cell.expected else f"{cell.n} of {cell.expected}"
        way = (f"#{_RUNS}", groups[(*cell.place, cell.variant)]) if cell.n else (None, None)
        rows.append([*row, Cell(told, float(cell.n), *way)])
    columns.append("runs")
    numbers = {"mean", "std", "SE", "paper", "paper std", "difference", "runs", *axes}
    return Table(
        "Results",
        columns,
        rows,
        frozenset(place for place, name in enumerate(columns) if name in numbers),
        has_filter=True,
    )


def _number(value: float, form: str = ".1f") -> Cell:
    return number_cell(None if math.isnan(value) else value, form)


def _value(value: Any) -> Cell:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(value_text(value), float(value) if is_number else None)


def _tests(rankings: Sequence[Ranking], axes: Sequence[str]) -> Table | None:
    """The comparisons of the two best columns; None if there are none."""
    rows = []
    for ranking in rankings:
        if (test := ranking.comparison) is None:
            continue
        rows.append(
            [
                Cell(ranking.dataset),
                *map(_value, ranking.row.values()),
                Cell(heading(ranking.best)),
                Cell(heading(ranking.second)),
                number_cell(ranking.p_holm, ".4g"),
                number_cell(float(test.n), ".0f"),
                Cell("yes" if ranking.significant else "no"),
            ]
        )
    columns = ["data set", *axes, "best", "second", "adjusted p", "n", "significant"]
    numbers = frozenset(place for place, name in enumerate(columns) if name in ("adjusted p", "n", *axes))
    return Table("Best against second best", columns, rows, numbers) if rows else None


def _runs(
    folder: Path, results: pd.DataFrame, axes: Sequence[str], metric: str, groups: Mapping[Variant, str]
) -> Table:
    """The finished experiments, each with a link to its page, or the command that writes it."""
    columns = ["data set", *axes, "method", "normal", "known", "seed", metric, "run"]
    rows, of_rows = [], []
    shown = results[results[metric].notna()]
    for one in shown.to_dict("records"):
        values = [None if pd.isna(one[axis]) else one[axis] for axis in axes]
        place = one["dataset"], tuple(values), one["column"], one["variant"]
        rows.append(
            [
                Cell(one["dataset"]),
                *map(_value, values),
                Cell(heading(one["variant"])),
                Cell(_text(one["normal_class"])),
                Cell(_text(one["anomaly_class"])),
                number_cell(one["seed"], ".0f"),
                number_cell(one[metric]),
                run_cell(folder, Path(one["experiment"])),
            ]
        )
        of_rows.append(groups.get(place, ""))
    numbers = frozenset(place for place, name in enumerate(columns) if name in ("seed", metric, *axes))
    return Table("Experiments", columns, rows, numbers, has_filter=True, anchor=_RUNS, groups=of_rows)


def _text(value: Any) -> str:
    return "" if value is None or value is pd.NA or value != value else str(value)
