"""The pages and figures of `make reproduce`, made from the CSV files alone."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.reproduce_queue import Step
from benchmarks.reproduce_rows import report, whole_step
from deepsad_pl.common.files import write_atomic

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
        made = report(step, csv, Path(folder))
        head, _, table = (made / "table.md").read_text(encoding="utf-8").partition("\n")
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


def _introduction(step: Step, name: str) -> str:
    words = f" {' '.join(step.words)}" if step.words else ""
    return (
        f"\nMade from [{name}.csv]({name}.csv) by `make reproduce ARGS=--pages`; do not edit it. Each experiment is "
        f"one of `python sweep.py study={step.study} dataset={step.dataset}{words}`.\n"
    )
