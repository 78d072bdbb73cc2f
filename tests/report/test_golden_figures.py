"""Figures of fixed data look as the committed pictures do, up to the rendering of letters."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn_cells import cells_of, results
from figure_texts import faults
from golden_files import FOLDER, GoldenFiles
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images

from deepsad_pl.common.figure_format import PAGE, FigureFormat
from deepsad_pl.report.benchmark_results import budgets_of, headings
from deepsad_pl.report.budget import BudgetPoint, budget_figure, budget_frame
from deepsad_pl.report.critical_difference import cd_diagram
from deepsad_pl.report.figures import auroc_figure
from deepsad_pl.report.known_novel import KnownNovel, known_novel_figure
from deepsad_pl.report.label_curves import label_curves
from deepsad_pl.report.rank_statistics import rank_statistics
from deepsad_pl.report.scatter import scatter_figure
from deepsad_pl.report.style import look

COLUMNS = ("ocsvm_raw", "kde_raw", "deep_svdd", "ssad_raw", "deep_sad", "my_method")
COLUMN = FigureFormat("paper", "column")
AXES = ["gamma_l"]
# Root mean square difference of grey levels: another release of FreeType is at 2, a moved line above 6.
_TOLERANCE = 4.0
_DPI = 72


def lines(form: FigureFormat, spread: float = 0.01) -> Figure:
    cells, _ = cells_of(results(COLUMNS, (0.0, 0.05, 0.2), seed=3, spread=spread), AXES)
    cells = [replace(cell, significant=cell.best, test_informed=()) for cell in cells]
    return auroc_figure("A ratio of labeled anomalies", cells, AXES, "", form)


def dots(form: FigureFormat) -> Figure:
    cells, _ = cells_of(results(COLUMNS, (0.05,), seed=5, spread=0.01, datasets=("cardio", "thyroid", "mine")), AXES)
    return auroc_figure("Tables", [replace(cell, significant=cell.best) for cell in cells], AXES, "", form)


def known_novel(form: FigureFormat) -> Figure:
    frame = results(COLUMNS, (0.0, 0.05), seed=3, spread=0.01)
    known, novel = (cells_of(frame, AXES, metric=metric)[0] for metric in ("auroc_known", "auroc_novel"))
    return known_novel_figure("Known and novel", KnownNovel(known, novel), AXES, "", form)


def scatter(form: FigureFormat) -> Figure:
    cells, rankings = cells_of(results(COLUMNS, (0.0, 0.05), seed=3, units=8), AXES)
    return scatter_figure("Best against second best", cells, rankings, AXES, "", form)


def budget(form: FigureFormat) -> Figure:
    random, points = np.random.default_rng(0), []
    for number, strategy in enumerate(("random", "diverse")):
        for seed in range(4):
            start = 0.7 + seed / 20
            for labels in (5, 15, 25):
                auroc = start + (labels - 5) * (0.004 + number / 500) + random.normal(0, 0.004) * (labels > 5)
                points.append(
                    BudgetPoint("cardio", "deep_sad", strategy, labels, seed, "0", auroc, labels // 5 * (number + 1))
                )
    return budget_figure("What more labels buy", budget_frame(points), "", form=form)


def curves(form: FigureFormat) -> Figure:
    frame = benchmark()
    budgets = [one for one in budgets_of(frame, "auroc") if one.name != "overall"]
    figure = label_curves("A benchmark", budgets, "AUROC", headings(frame), form)
    assert figure is not None
    return figure


def ranks(form: FigureFormat) -> Figure:
    frame = benchmark()
    found = rank_statistics(budgets_of(frame, "auroc")[0])
    return cd_diagram("A benchmark", found, "AUROC", headings(frame), form)


def benchmark() -> pd.DataFrame:
    """Results of five methods on eight tables with 1 and 5 labels."""
    frame = results(COLUMNS[:5], (1.0, 5.0), seed=2, units=2, datasets=[f"table {number}" for number in range(8)])
    return frame.rename(columns={"gamma_l": "labels", "column": "method"}).assign(
        seed=frame["normal_class"].astype(int)
    )


PICTURES: dict[str, Callable[[], Figure]] = {
    "lines_page": lambda: lines(PAGE),
    "lines_column": lambda: lines(COLUMN),
    "dots_page": lambda: dots(PAGE),
    "dots_column": lambda: dots(COLUMN),
    "known_novel_page": lambda: known_novel(PAGE),
    "scatter_page": lambda: scatter(PAGE),
    "budget_page": lambda: budget(PAGE),
    "label_curves_page": lambda: curves(PAGE),
    "critical_difference_page": lambda: ranks(PAGE),
}


@pytest.mark.parametrize("name", PICTURES)
def test_figures_look_as_before_and_have_no_faults(name: str, golden: GoldenFiles, tmp_path: Path) -> None:
    figure = PICTURES[name]()
    assert faults(figure) == []
    expected, found = FOLDER / "figures" / f"{name}.png", tmp_path / f"{name}.png"
    written(figure, expected if golden.write else found)
    if not golden.write:
        assert compare_images(str(expected), str(found), tol=_TOLERANCE) is None


def test_a_figure_whose_lines_moved_is_noticed(tmp_path: Path) -> None:
    before, after = tmp_path / "before.png", tmp_path / "after.png"
    written(lines(PAGE), before)
    written(lines(PAGE, spread=0.012), after)
    assert compare_images(str(before), str(after), tol=_TOLERANCE) is not None


def written(figure: Figure, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with look():
        figure.savefig(path, dpi=_DPI, metadata={"Software": None})
