"""The pages and figures of `make reproduce`, made from the CSV files alone."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmarks.reproduce_queue import Step
from benchmarks.reproduce_rows import report, results_frame, whole_step
from deepsad_pl.common.files import write_atomic
from deepsad_pl.report.columns import heading
from deepsad_pl.report.markdown import aligned
from deepsad_pl.report.reference import paper_cell
from deepsad_pl.report.standard_error import verdict
from deepsad_pl.study.requests import Memory

_FIGURES = ("figure", "known_novel")


def write_page(name: str, steps: Sequence[Step], results: Path, figures: Path) -> Path | None:
    """Write the page of a CSV file, ``<results>/<name>.md``, and its figures; return it, or None without rows.

    Args:
        name: name of the CSV file, without suffix.
        steps: the steps of that file.
        results: folder of the CSV files and the pages.
        figures: folder of the figures.

    Raises:
        DeepSADError: if the report cannot be made.
    """
    csv, page = results / f"{name}.csv", results / f"{name}.md"
    if (step := whole_step(name, steps, csv)) is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        if (made := complete_report(step, steps, csv, Path(folder))) is None:
            return None
        head, _, table = (made / "table.md").read_text(encoding="utf-8").partition("\n")
        if (beside := beside_paper(made / "table.csv", [*step.axes])) is not None:
            table = f"{table}\n{beside}"
        text = [f"{head}, `{step.dataset if step.needs is None else step.needs}`", _introduction(step, name), table]
        figures.mkdir(parents=True, exist_ok=True)
        for figure in _FIGURES:
            if (drawn := made / f"{figure}.png").exists():
                file = figures / (f"{name}.png" if figure == "figure" else f"{name}_{figure}.png")
                write_atomic(file, drawn.read_bytes())
                told = "Mean AUROC of each method" if figure == "figure" else "AUROC on known and on novel anomalies"
                text.append(f"![{told}](../{file.parent.name}/{file.name})\n")
        if (apart := made / "known_novel.md").exists():
            text.append("#" + apart.read_text(encoding="utf-8"))
    write_atomic(page, "\n".join(text))
    return page


def complete_report(step: Step, steps: Sequence[Step], csv: Path, folder: Path) -> Path | None:
    """Report the cells of a study that are complete, each with its largest complete sample.

    Args:
        step: the whole study of a page.
        steps: the steps of the queue, whose samples are possible.
        csv: its CSV file.
        folder: an empty folder.

    Returns:
        The folder of the report; None if no cell is complete.

    Raises:
        DeepSADError: if the report cannot be made.
    """
    frame = results_frame(step, csv, folder / "whole")
    parts = [] if frame is None else parts_to_show(step, steps, frame)
    (axis,) = step.axes
    while parts:
        output_dir = folder / "parts"
        *earlier, last = parts
        for part in earlier:
            Memory(output_dir / "studies" / step.study).add(part.request)
        made = report(last, csv, output_dir)
        frame = pd.read_csv(made / "results.csv")
        cells = zip(_methods_of(frame), frame[axis], frame["finished"], strict=True)
        missing = {(method, value) for method, value, finished in cells if not finished}
        if not missing:
            return made
        # As many experiments as a sample has are finished, but others than those of the sample.
        left = [
            replace(part, methods=tuple(m for m in part.methods if (m, part.axes[axis][0]) not in missing))
            for part in parts
        ]
        shutil.rmtree(output_dir)
        parts = [part for part in left if part.methods]
    return None


def beside_paper(table: Path, axes: Sequence[str]) -> str | None:
    """Where a report leaves the paper's figures out, since the data's files differ: a table of ours beside the paper's.

    Args:
        table: the table.csv of a report.
        axes: names of the axes.

    Returns:
        The section of the page; None if the report has the paper's figures, or the paper has none.
    """
    cells = pd.read_csv(table, keep_default_na=False)
    lines = []
    for cell in cells.to_dict("records"):
        row = {axis: float(cell[axis]) for axis in axes}
        paper = paper_cell(str(cell["dataset"]), row, str(cell["column"]))
        if cell["paper_mean"] != "" or not str(cell["run_with"]).startswith("data other than") or paper is None:
            continue
        if cell["standard_error"] == "":
            continue
        mean, error = float(cell["mean"]), float(cell["standard_error"])
        ours = f"{mean:.1f} ± {float(cell['std']):.1f}"
        values = [f"{value:g}" for value in row.values()]
        told = [
            f"{error:.2f}",
            str(cell["n"]),
            f"{paper[0]:.1f} ± {paper[1]:.1f}",
            verdict(mean, error, paper[0]) or "",
        ]
        lines.append([*values, heading(str(cell["column"])), ours, *told])
    if not lines:
        return None
    head = [*axes, "method", "ours", "SE", "n", "paper", "ours is"]
    return "\n".join(
        [
            "## Beside the paper's figures",
            "",
            "The files of the data are not byte for byte the published ones, so the table above leaves the paper's",
            "figures out. With that caution:",
            "",
            *aligned([head, *lines]),
            "",
        ]
    )


def parts_to_show(step: Step, steps: Sequence[Step], frame: pd.DataFrame) -> list[Step]:
    """Parts of a study that together show each cell with its largest complete sample.

    Experiments beyond a complete sample are left out until the next larger one is complete, and so is a cell that has
    too few for any: those that happen to be finished are no random sample, so that there would be no standard error.

    Args:
        step: the whole study of a page.
        steps: the steps of the queue, whose samples are possible.
        frame: the results of a report of the whole study.
    """
    (axis,) = step.axes
    parts: dict[tuple[int | None, float], list[str]] = {}
    for method in step.methods:
        of_method = frame[_methods_of(frame) == method]
        for value, cell in of_method.groupby(axis):
            experiments = cell.drop_duplicates("experiment")
            finished = int(experiments["finished"].sum())
            sizes = {s.sample for s in steps if s.results == step.results and method in s.methods} - {None}
            each = len(step.seeds) or 1
            fitting = [size for size in sizes if size is not None and size * each <= finished]
            if finished == len(experiments):
                parts.setdefault((None, float(str(value))), []).append(method)
            elif fitting:
                parts.setdefault((max(fitting), float(str(value))), []).append(method)
    kinds = {float(value): value for value in step.axes[axis]}
    return [
        replace(step, methods=tuple(methods), axes={axis: [kinds[value]]}, sample=size)
        for (size, value), methods in parts.items()
    ]


def _methods_of(frame: pd.DataFrame) -> "pd.Series[str]":
    """The method that was asked for in each row; a borrowed experiment is of a method that is named as its column."""
    of_variant = frame["variant"].str.partition(",")[0]
    return of_variant.where(frame["borrowed"].isna(), frame["column"])


def _introduction(step: Step, name: str) -> str:
    words = "".join(f" {word}" for word in step.further)
    return (
        f"\nMade from [{name}.csv]({name}.csv) by `make reproduce ARGS=--pages`; do not edit it. Each experiment is "
        f"one of `python sweep.py study={step.study} dataset={step.dataset}{words}`.\n"
    )
