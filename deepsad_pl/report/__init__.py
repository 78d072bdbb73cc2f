"""The report of a study, made from its records: tables beside the paper's, significance tests and figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.figure_format import PAGE, FigureFormat
from deepsad_pl.common.files import write_atomic
from deepsad_pl.common.records import APART, METRICS, REPORT
from deepsad_pl.report.cells import Cell, Ranking, make_cells
from deepsad_pl.report.figures import auroc_figure
from deepsad_pl.report.known_novel import (
    NAME,
    KnownNovel,
    in_common,
    known_novel_csv,
    known_novel_figure,
    known_novel_latex,
    known_novel_markdown,
    known_novel_of,
)
from deepsad_pl.report.latex import latex
from deepsad_pl.report.layout import cells_csv, tests_csv
from deepsad_pl.report.markdown import markdown
from deepsad_pl.report.measure import AUROC
from deepsad_pl.report.notes import notes_of
from deepsad_pl.report.reference import paper_cell
from deepsad_pl.report.scatter import scatter_figure
from deepsad_pl.report.study_page import study_page
from deepsad_pl.report.style import rendered


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        folder: folder of the files.
        title: title of the study.
        axes: names of the axes.
        cells: cells of the table.
        rankings: best against second-best column, at most one per row of the table.
        notes: sentences beneath the table.
        files: all files of the report.
        known_novel: the cells of the table "known | novel"; None if there is none.
    """

    folder: Path
    title: str
    axes: tuple[str, ...]
    cells: list[Cell]
    rankings: list[Ranking]
    notes: list[str]
    files: list[Path]
    known_novel: KnownNovel | None = None

    def frames(self) -> dict[str, pd.DataFrame]:
        """``table``, ``tests`` and ``known_novel_table`` as data frames, with the content of their CSV files."""
        paths = {name: self.folder / f"{name}.csv" for name in ("table", "tests")}
        if self.known_novel is not None:
            paths[f"{NAME}_table"] = self.folder / f"{NAME}.csv"
        return {name: pd.read_csv(path, float_precision="round_trip") for name, path in paths.items()}


def write_report(
    folder: Path,
    results: pd.DataFrame,
    *,
    name: str,
    title: str,
    axes: Sequence[str],
    run_with: Sequence[str] = (),
    with_paper: bool = True,
    with_figure: bool = True,
    metric: str = "auroc",
    by_known: pd.DataFrame | None = None,
    notes: Sequence[str] = (),
    form: FigureFormat = PAGE,
) -> Report:
    """Write ``table.md``, ``table.csv``, ``table.tex``, ``tests.csv``, ``results.csv``, ``figure`` and ``scatter``.

    ``report.html`` shows all of it on one page.
    Where known and novel anomalies are told apart, ``known_novel.md``, ``.csv``, ``.tex`` and a figure of that name are
    written as well. The figures are written as .png and .svg.

    Args:
        folder: folder for the files; created if missing.
        results: one row per experiment and cell, with the columns ``dataset``, ``column``, ``variant``, one per axis,
            ``normal_class``, ``anomaly_class`` (None if it has no effect), ``seed``, ``experiment`` (its identity),
            ``auroc`` in [0, 1] (NaN until it is finished), ``borrowed``, ``protocol``, ``paper_n`` (number of
            experiments of the study behind the paper's value) and ``lr_from_test`` (whether it uses the data set's
            learning rates and these were chosen by test AUROC); if present, ``setting_from_test`` says whether its
            method has a setting that was chosen knowing test AUROC, ``finished`` tells finished experiments in which a
            metric is blank from others, and ``population`` is the number of pairs of a normal and a known class (or of
            a normal class and a seed, if ``seed_draws``) from which those of the cell were sampled (missing if they
            were not), without which there are no standard errors. ``seed_draws`` says whether the seed draws the known
            classes, ``drawn_from`` names the pairs that were to choose from, and ``as_paper`` says whether these are
            those of the paper. Other columns are only written into ``results.csv``.
        name: name of the study.
        title: title of tables and figures.
        axes: names of the axes, of which the figure shows the first; may be empty.
        run_with: settings of the experiments that differ from the study's own, as on the command line.
        with_paper: whether to show the paper's results beside ours.
        with_figure: whether to draw ``figure``.
        metric: the column of ``results`` that tables, tests and figures show; without AUROC, no paper's results.
        by_known: as ``results``, but with a row for each known class that an experiment stands for, and with the
            columns ``known`` (names of these classes), ``auroc_known`` and ``auroc_novel``, which are shown from here,
            over the classes that all cells of a data set share.
        notes: sentences that come first beneath the table.
        form: size of the figures.

    Raises:
        DeepSADError: if no experiment is finished, none has the metric, or the folder cannot be written.
    """
    by_known = None if by_known is None else in_common(by_known, axes)
    shown = by_known if metric in APART and by_known is not None else results
    if metric not in shown or not shown[metric].notna().any():
        raise _nothing(name, metric, results)
    is_auroc = metric == AUROC.name
    cells, rankings = make_cells(shown, axes, with_paper=with_paper and is_auroc, metric=metric)
    in_paper = any(paper_cell(cell.dataset, cell.row, cell.column) for cell in cells)
    settings = " ".join(run_with)
    told_of = partial(
        notes_of,
        cells,
        rankings,
        axes,
        run_with=settings,
        paper_left_out=not with_paper and is_auroc and in_paper,
        paper_has_another=not is_auroc and in_paper,
        first=notes,
    )
    told = told_of()
    apart = None
    if by_known is not None:
        apart = known_novel_of(by_known, axes, {cell.place: cell.variant for cell in cells})
    contents: dict[str, str | bytes] = {
        "table.md": markdown(title, cells, axes, told),
        "table.csv": cells_csv(cells, axes, settings),
        "table.tex": latex(title, cells, axes, told),
        "tests.csv": tests_csv(rankings, cells, axes, settings),
        "results.csv": results.to_csv(index=False, lineterminator="\n"),
        REPORT: study_page(
            *(folder, title, cells, rankings, shown, axes),
            metric=metric,
            notes=told_of(best="marked"),
            run_with=settings,
        ),
    }
    if with_figure:
        contents |= rendered(auroc_figure(title, cells, axes, settings, form), "figure", form)
    scatter = scatter_figure(f"{title}: best against second best", cells, rankings, axes, settings, form)
    contents |= rendered(scatter, "scatter", form)
    if apart is not None:
        contents |= {
            f"{NAME}.md": known_novel_markdown(title, apart, axes, settings),
            f"{NAME}.csv": known_novel_csv(apart, axes, settings),
            f"{NAME}.tex": known_novel_latex(title, apart, axes, settings),
            **rendered(known_novel_figure(title, apart, axes, settings, form), NAME, form),
        }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in contents.items():
            write_atomic(folder / file, content)
    except OSError as error:
        raise DeepSADError(
            f"the report cannot be written into {folder} ({error}); set output_dir to a writable folder"
        ) from error
    return Report(folder, title, tuple(axes), cells, rankings, told, [folder / file for file in contents], apart)


def _nothing(name: str, metric: str, results: pd.DataFrame) -> DeepSADError:
    """Why there is nothing to report."""
    finished = results["finished"] if "finished" in results else results[AUROC.name].notna()
    if not finished.any():
        return DeepSADError(
            f"no experiment of the study {name} is finished; run it first: python sweep.py study={name}"
        )
    return DeepSADError(
        f"study.metric is {metric}, but all {int(finished.sum())} finished experiments of the study {name} leave it "
        f"blank; choose another of {', '.join(METRICS)}, or a metric of your own that they have"
    )


__all__ = ["Cell", "Ranking", "Report", "write_report"]
