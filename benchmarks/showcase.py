"""Draw the figure on top of the README from the committed results of `make reproduce`.

    python -m benchmarks.showcase

What a detector gains from labeled anomalies: AUROC on anomalies of the class of which some were labeled in training,
and on those of all other classes, for Deep SAD, for a classifier, and for Deep SVDD, which uses no labels.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.commands import ROOT
from benchmarks.reproduce_pages import complete_report
from benchmarks.reproduce_queue import QUEUE, read_queue
from benchmarks.reproduce_rows import whole_step
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.report.style import look, new_figure, save, style_of

GAMMA_L = 0.05
RESULTS = {"Fashion-MNIST": "fmnist_labeled_anomalies", "MNIST": "mnist_labeled_anomalies"}
METHODS = {
    "deep_sad": "Deep SAD",
    "deep_svdd": "Deep SVDD: no labels",
    "classifier": "classifier: labels only",
}
KINDS = {"known_mean": "known\nanomalies", "novel_mean": "novel\nanomalies"}
_TEXT = 11.0  # points
_GAP = 2.1  # least distance between two texts, in percentage points


def known_and_novel(cells: pd.DataFrame) -> pd.DataFrame:
    """Mean AUROC in percent on known and novel anomalies, over the pairs of classes that all methods have.

    Args:
        cells: the ``known_novel.csv`` of a report of :data:`METHODS`, and of no others.

    Returns:
        A row for each of :data:`METHODS`, a column for each of :data:`KINDS`, and the number of pairs in ``pairs``.

    Raises:
        DeepSADError: if a method has no results.
    """
    row = cells[cells["gamma_l"] == GAMMA_L].set_index("column")
    if missing := [method for method in METHODS if method not in row.index]:
        raise DeepSADError(f"there are no results of {', '.join(missing)} for gamma_l={GAMMA_L}; run make reproduce")
    return row.loc[list(METHODS), [*KINDS, "known_n"]].rename(columns={"known_n": "pairs"})


def showcase_figure(found: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw a panel for each data set, with a line for each method from known to novel anomalies.

    Args:
        found: by the name of the data set, see :func:`known_and_novel`.
    """
    with look(**{"axes.grid": False, "xtick.labelsize": _TEXT, "ytick.labelsize": _TEXT, "axes.titlesize": 13}):
        figure = new_figure(8.0, 4.1)
        places = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        low = min(frame[list(KINDS)].to_numpy().min() for frame in found.values())
        for place, (name, frame) in zip(places, found.items(), strict=True):
            place.set_title(name, fontweight="bold", loc="left")
            place.set_ylim(low - 4, 101.5)
            _panel(place, frame)
        places[0].set_ylabel("AUROC in %", fontsize=_TEXT)
        counts = " and ".join(str(frame["pairs"].iloc[0]) for frame in found.values())
        figure.suptitle(
            "Deep SAD learns from labeled anomalies, and still finds new kinds", fontsize=14, fontweight="bold"
        )
        figure.supxlabel(
            "5 % of the training data are labeled anomalies of one class, the known one. "
            f"Means over {counts} pairs of a normal and a known class.",
            fontsize=8.5,
            color="#444444",
        )
        return figure


def _panel(place: Axes, frame: pd.DataFrame) -> None:
    for method in METHODS:
        style = style_of(method)
        ends = [float(frame[kind][method]) for kind in KINDS]
        width = 3.2 if method == "deep_sad" else 1.8
        place.plot(
            [0, 1], ends, **{**style.drawn, "markersize": 8}, linestyle=style.line, linewidth=width, zorder=style.level
        )
    for x, kind, side, shift in ((0, "known_mean", "right", -0.06), (1, "novel_mean", "left", 0.06)):
        values = {str(method): float(value) for method, value in frame[kind].sort_values().items()}
        for method, y in zip(values, spread([*values.values()], _GAP, 101.0), strict=True):
            text = f"{values[method]:.0f}" if x == 0 else f"{values[method]:.0f}  {METHODS[method]}"
            weight = "bold" if method == "deep_sad" else "normal"
            color = style_of(method).color
            place.text(x + shift, y, text, ha=side, va="center", color=color, fontsize=_TEXT, fontweight=weight)
    place.set_xticks([0, 1], list(KINDS.values()))
    place.set_xlim(-0.5, 2.4)
    place.spines["bottom"].set_bounds(-0.5, 1.25)


def spread(values: Sequence[float], gap: float, highest: float) -> list[float]:
    """Move ascending values apart to a minimum distance, downwards from the highest value allowed.

    >>> spread([1.0, 9.5, 10.0], 1.0, 10.0)
    [1.0, 9.0, 10.0]
    """
    found: list[float] = []
    limit = highest
    for value in reversed(values):
        found.append(min(value, limit))
        limit = found[-1] - gap
    return found[::-1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the figure's files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "results", help="folder of the CSV files")
    parser.add_argument("--figures", type=Path, default=ROOT / "docs" / "figures", help="folder of the figure")
    options = parser.parse_args(arguments)
    steps = read_queue(QUEUE)
    found = {}
    for name, file in RESULTS.items():
        with tempfile.TemporaryDirectory() as folder:
            csv = options.results / f"{file}.csv"
            step = whole_step(file, steps, csv)
            if step is not None:
                # Other methods would narrow the pairs that all have.
                step = replace(step, methods=tuple(method for method in METHODS if method in step.methods))
            made = None if step is None else complete_report(step, steps, csv, Path(folder))
            if made is None:
                raise DeepSADError(f"{csv} has no complete results; run make reproduce")
            found[name] = known_and_novel(pd.read_csv(made / "known_novel.csv"))
    for path in save(showcase_figure(found), options.figures, "showcase"):
        print(path)


if __name__ == "__main__":
    main()
