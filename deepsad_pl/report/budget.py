"""Report what more labels gain: a metric and labeled anomalies by number of labels, for each query strategy."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deepsad_pl.common.figure_format import PAGE, FigureFormat
from deepsad_pl.common.files import write_atomic
from deepsad_pl.report.columns import heading
from deepsad_pl.report.legends import Entry, legend
from deepsad_pl.report.measure import AUROC, Measure
from deepsad_pl.report.notes import INFORMED
from deepsad_pl.report.style import MEDIUM, look, new_figure, rendered, set_title
from deepsad_pl.report.text_width import wrapped

_COLORS = {"random": "#6E6E6E", "anomalous": "#D55E00", "uncertain": "#0072B2", "diverse": "#009E73"}
_MARKERS = {"random": "s", "anomalous": "^", "uncertain": "o", "diverse": "D"}
_ACROSS = 3  # data sets side by side on a page
_PLACE = ["dataset", "column", "strategy", "labels"]


@dataclass(frozen=True)
class BudgetPoint:
    """One finished experiment, which is one round of an active-learning loop.

    Attributes:
        dataset: name of the data set.
        column: column of the method.
        strategy: how the samples to label were chosen.
        labels: number of labeled samples.
        seed: seed of the loop.
        normal_class: name of the normal class.
        value: the metric of the test set, such as AUROC in [0, 1].
        anomalies: number of labeled samples that are anomalies.
        test_informed: whether the result depends on a choice that was made with test labels.
    """

    dataset: str
    column: str
    strategy: str
    labels: int
    seed: int
    normal_class: str
    value: float
    anomalies: int
    test_informed: bool = False


def budget_frame(points: Sequence[BudgetPoint], measure: Measure = AUROC) -> pd.DataFrame:
    """Average the loops over their seeds, after averaging over the normal classes of each seed.

    Args:
        points: the finished experiments, in the order of the table.
        measure: the metric of the points.

    Returns:
        One row for each data set, column, strategy and number of labels. The metric, in a column of its name and in
        percent if it is one of the package's, and ``anomalies`` are means over ``seeds`` seeds, with standard errors
        in ``<name>_se`` and ``anomalies_se``. ``gain`` is the mean difference of the metric to the next smaller number
        of labels that the data set and column have, paired by seed and normal class, over ``gain_seeds`` seeds;
        ``gain_se`` is its standard error. ``total_gain`` and ``total_gain_se`` are likewise for the difference to the
        smallest number. A standard error of fewer than two seeds is NaN, and so is a gain whose smaller number is not
        finished. ``test_informed`` says whether any point is.
    """
    found = pd.DataFrame([vars(point) for point in points])
    name = measure.name
    found[name] = found.pop("value") * measure.factor
    order = {column: list(dict.fromkeys(found[column])) for column in ("dataset", "column", "strategy")}
    # Only loops that have finished both rounds are compared.
    loop = ["dataset", "column", "strategy", "seed", "normal_class"]
    numbers = {place: sorted(set(of_place)) for place, of_place in found.groupby(["dataset", "column"])["labels"]}
    before = {(*place, b): a for place, labels in numbers.items() for a, b in pairwise(labels)}
    values = {(*key, labels): value for *key, labels, value in found[[*loop, "labels", name]].itertuples(index=False)}
    gains, totals = [], []
    for *key, labels, value in found[[*loop, "labels", name]].itertuples(index=False):
        place = (key[0], key[1])
        gains.append(value - values.get((*key, before.get((*place, labels))), math.nan))
        totals.append(value - values.get((*key, numbers[place][0]), math.nan))
    found["gain"], found["total_gain"] = gains, totals
    measured = [name, "anomalies", "gain", "total_gain"]
    by_place = found.groupby([*_PLACE, "seed"], sort=False)
    each = by_place[measured].mean().assign(test_informed=by_place["test_informed"].any()).reset_index()
    rows = [
        {
            **dict(zip(_PLACE, place, strict=True)),
            "seeds": len(of_place),
            **_mean_and_error(of_place, name),
            **_mean_and_error(of_place, "anomalies"),
            "gain_seeds": int(of_place["gain"].notna().sum()),
            **_mean_and_error(of_place, "gain"),
            **_mean_and_error(of_place, "total_gain"),
            "test_informed": bool(of_place["test_informed"].any()),
        }
        for place, of_place in each.groupby(_PLACE, sort=False)
    ]
    rows.sort(key=lambda row: [*(order[key].index(row[key]) for key in order), row["labels"]])
    return pd.DataFrame(rows)


def _mean_and_error(found: pd.DataFrame, name: str) -> dict[str, float]:
    values = found[name].dropna()
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return {name: float(values.mean()), f"{name}_se": error}


def budget_markdown(title: str, frame: pd.DataFrame, run_with: str, measure: Measure = AUROC) -> str:
    """The table as Markdown: a row for each number of labels, a column for each strategy.

    Args:
        title: title of the study.
        frame: see :func:`budget_frame`.
        run_with: settings that differ from the study's own; may be empty.
        measure: the metric of the frame.
    """
    told = _seeds(frame)

    def found(row: "pd.Series[Any]") -> str:
        return f"{measure.plus_minus(row[measure.name], row[f'{measure.name}_se'])} ({row['anomalies']:.1f})"

    def bought(row: "pd.Series[Any]") -> str:
        return ("+" if row["gain"] >= 0 else "") + measure.plus_minus(row["gain"], row["gain_se"])

    in_percent, points = (" in percent", ", in percentage points") if measure.in_percent else ("", "")
    gains = frame[frame["gain_seeds"] > 0]
    lines = [f"# {title}", "", *_table(frame, found)]
    if len(gains):
        lines += ["", f"Gain in {measure.label} over the row before{points}:", ""]
        lines += _table(gains, bought)
    lines += [
        "",
        f"- {measure.label}{in_percent}: mean ± standard error over {told}; in brackets the labeled anomalies.",
    ]
    if len(gains):
        lines[-1] += " Differences are paired by seed and normal class."
    if frame["test_informed"].any():
        lines.append(f"- {INFORMED}")
    if run_with:
        lines.append(f"- The experiments were run with {run_with}, unlike the study as it stands.")
    return "\n".join([*lines, ""])


def _table(frame: pd.DataFrame, cell: Callable[["pd.Series[Any]"], str]) -> list[str]:
    strategies = list(dict.fromkeys(frame["strategy"]))
    lines = [f"| data set | method | labels | {' | '.join(strategies)} |", "|---" * (3 + len(strategies)) + "|"]
    for (dataset, column, labels), here in frame.groupby(["dataset", "column", "labels"], sort=False):
        shown = {row["strategy"]: cell(row) for _, row in here.iterrows()}
        cells = [shown.get(strategy, "-") for strategy in strategies]
        mark = "†" if here["test_informed"].any() else ""
        lines.append(f"| {dataset} | {heading(str(column))}{mark} | {labels} | {' | '.join(cells)} |")
    return lines


def _seeds(frame: pd.DataFrame) -> str:
    least, most = frame["seeds"].min(), frame["seeds"].max()
    return f"{least} seed{'' if least == 1 else 's'}" if least == most else f"{least} to {most} seeds"


def budget_figure(
    title: str, frame: pd.DataFrame, run_with: str, measure: Measure = AUROC, form: FigureFormat = PAGE
) -> Figure:
    """Draw what labels gain, and below it how many anomalies are labeled, for each data set and method.

    The gain over the fewest labels is paired by seed and normal class: the differences between seeds would hide it.

    Args:
        title: title of the study.
        frame: see :func:`budget_frame`.
        run_with: settings that differ from the study's own; may be empty.
        measure: the metric of the frame.
        form: size of the figure.
    """
    panels = list(frame.groupby(["dataset", "column"], sort=False))
    several = frame["column"].nunique() > 1
    wide = min(len(panels), _ACROSS) if not form.is_column else 1
    high = math.ceil(len(panels) / wide)
    with look():
        figure = new_figure(form.inches if wide > 1 else min(form.inches, 3.6), 3.5 * high)
        room = float(figure.get_size_inches()[0]) / wide - 0.6
        grid = figure.subplots(2 * high, wide, squeeze=False, height_ratios=[3, 2] * high)
        for place in grid.flat:
            place.set_axis_off()
        for number, ((dataset, column), found) in enumerate(panels):
            above, below = (grid[2 * (number // wide) + line, number % wide] for line in (0, 1))
            name = f"{dataset}, {heading(str(column))}" if several else str(dataset)
            name += ", test-informed" if found["test_informed"].any() else ""
            _panels(above, below, found, name, measure, room)
            if not number % wide:
                above.set_ylabel(f"gain in {measure.label}" if measure.in_percent else "gain")
                below.set_ylabel("labeled anomalies")
        strategies = list(dict.fromkeys(map(str, frame["strategy"])))
        legend(figure, [Entry(name, {**_shape(name), "linestyle": "-"}) for name in strategies])
        told = f"mean and standard error over {_seeds(frame)}; gains are paired by seed"
        set_title(figure, title, told, f"run with {run_with}" if run_with else "")
        return figure


def _panels(above: Axes, below: Axes, found: pd.DataFrame, name: str, measure: Measure, room: float) -> None:
    """Draw the two panels of a data set and a method."""
    lines = list(found.groupby("strategy", sort=False))
    ticks = sorted(found["labels"].unique())
    # Side by side, so that their error bars do not hide each other.
    gap = 0.06 * min(np.diff(ticks), default=1)
    for number, (strategy, line) in enumerate(lines):
        x = line["labels"] + (number - (len(lines) - 1) / 2) * gap
        for place, what in ((above, "total_gain"), (below, "anomalies")):
            error = line[f"{what}_se"].fillna(0.0)
            place.errorbar(x, line[what], error, **_shape(str(strategy)), elinewidth=0.7)
    told = (
        f"{measure.label} {_start(found, ticks[0], measure)} with {ticks[0]} {'label' if ticks[0] == 1 else 'labels'}"
    )
    above.set_title("\n".join(wrapped(line, room, MEDIUM) for line in (name, told)))
    for place in (above, below):
        place.set_axis_on()
        place.set_xticks(ticks)
    above.axhline(0, color="#404040", linewidth=0.8, zorder=1.2)
    above.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    above.yaxis.set_major_formatter("{x:+g}")
    above.tick_params(labelbottom=False)
    below.set_xlabel("labeled samples")
    below.set_ylim(bottom=0)
    below.yaxis.set_major_locator(MaxNLocator(5, integer=True))


def _start(found: pd.DataFrame, fewest: int, measure: Measure) -> str:
    """The metric with the fewest labels: one value if all strategies start from the same, as with none asked for."""
    first = found[found["labels"] == fewest]
    told = {
        str(strategy): measure.plus_minus(mean, error)
        for strategy, mean, error in zip(
            first["strategy"], first[measure.name], first[f"{measure.name}_se"], strict=True
        )
    }
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    return ", ".join(f"{strategy} {value}" for strategy, value in told.items())


def _shape(strategy: str) -> dict[str, Any]:
    return {"color": _COLORS.get(strategy, "#CC79A7"), "marker": _MARKERS.get(strategy, "v")}


def write_budget(
    folder: Path,
    title: str,
    points: Sequence[BudgetPoint],
    run_with: Sequence[str] = (),
    measure: Measure = AUROC,
    form: FigureFormat = PAGE,
) -> list[Path]:
    """Write ``budget.md``, ``budget.csv``, ``figure.png`` and ``figure.svg``.

    Args:
        folder: folder for the files.
        title: title of the study.
        points: the finished experiments; without any, nothing is written.
        run_with: settings that differ from the study's own.
        measure: the metric of the points.
        form: size of the figure.

    Returns:
        The files.
    """
    if not points:
        return []
    frame, told = budget_frame(points, measure), " ".join(run_with)
    contents: dict[str, str | bytes] = {
        "budget.md": budget_markdown(title, frame, told, measure),
        "budget.csv": frame.to_csv(index=False, lineterminator="\n", float_format="%.4f"),
        **rendered(budget_figure(title, frame, told, measure, form), "figure", form),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_atomic(folder / name, content)
    return [folder / name for name in contents]
