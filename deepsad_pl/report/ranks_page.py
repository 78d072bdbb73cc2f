"""The page of a benchmark of many tables: ranks, tests, tables and figures, all from one ``results.csv``."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.figure_format import PAGE, FigureFormat
from deepsad_pl.common.files import write_atomic
from deepsad_pl.common.records import REPORT
from deepsad_pl.report.benchmark_results import OVERALL, budgets_of, check_results, headings
from deepsad_pl.report.critical_difference import cd_diagram
from deepsad_pl.report.label_curves import label_curves
from deepsad_pl.report.measure import measure_of
from deepsad_pl.report.rank_files import cells_of_datasets_csv, pairs_csv, ranks_csv
from deepsad_pl.report.rank_statistics import rank_statistics
from deepsad_pl.report.ranks_html import ranks_html
from deepsad_pl.report.ranks_latex import ranks_latex
from deepsad_pl.report.ranks_markdown import ranks_markdown
from deepsad_pl.report.style import rendered


def write_ranks(
    results: pd.DataFrame,
    folder: Path,
    metric: str = "auroc",
    title: str = "Benchmark of many tables",
    form: FigureFormat = PAGE,
    *,
    runs: Mapping[str, Path] | None = None,
    progress: str = "",
) -> list[Path]:
    """Write the ranks of a benchmark: by number of labeled anomalies, and overall if there are several.

    The files are ``report.html`` (the page), ``ranks.md``, ``ranks.tex``, ``ranks.csv`` (a row per number of labels and
    method), ``rank_pairs.csv`` (a row per number of labels and pair of methods), ``rank_cells.csv`` (a row per number
    of labels, data set and method), ``critical_difference_<labels>`` where a Friedman test is possible, and
    ``label_curves`` if there are several numbers of labels; figures are written as .png and .svg.

    Args:
        results: one row per experiment, with the columns ``dataset``, ``method``, ``labels`` (number of labeled
            anomalies; blank counts for every number), ``seed`` and the metric (blank where there is none). A column
            ``test_informed`` (true or false) marks experiments behind which choices used test labels, a column
            ``heading`` names methods that are not the package's, and a column ``run_with`` the settings that differ
            from the benchmark's own, which the page tells. Further columns are ignored. Read a committed file by
            :func:`deepsad_pl.report.benchmark_results.read_results`.
        folder: folder for the files; created if missing.
        metric: column of a metric in [0, 1] of which more is better.
        title: title of the page, the tables and the figures.
        form: size of the figures.
        runs: the run folder of each experiment that has one here, by the ``hash`` in its row, for links to the runs.
        progress: how much of the benchmark is finished, for the top of the page.

    Returns:
        The files.

    Raises:
        DeepSADError: if no ranks can be made of the results, or the folder cannot be written.
    """
    check_results(results, metric)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    name, names = measure_of(metric).label, headings(results)
    budgets = budgets_of(results, metric)
    found = [rank_statistics(budget) for budget in budgets]
    contents: dict[str, str | bytes] = {}
    figures: dict[str, str] = {}
    for one in found:
        if one.friedman:
            file = f"critical_difference_{one.budget.name}"
            figures[one.budget.name] = f"{file}.png"
            contents |= rendered(cd_diagram(title, one, name, names, form), file, form)
    curves = label_curves(title, [budget for budget in budgets if budget.name != OVERALL], name, names, form)
    if curves:
        contents |= rendered(curves, "label_curves", form)
    run_with = _run_with(results)
    contents = {
        REPORT: ranks_html(
            *(folder, title, found, results, metric, names),
            figures={labels: file.replace(".png", ".svg") for labels, file in figures.items()},
            runs=runs or {},
            progress=progress,
            run_with=run_with,
        ),
        "ranks.md": ranks_markdown(
            title, found, name, names, figures, "label_curves.png" if curves else None, run_with
        ),
        "ranks.tex": ranks_latex(title, found, name, names),
        "ranks.csv": ranks_csv(found, metric, names),
        "rank_pairs.csv": pairs_csv(found, metric),
        "rank_cells.csv": cells_of_datasets_csv(found, metric),
        **contents,
    }
    try:
        for file, content in contents.items():
            write_atomic(folder / file, content)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return [folder / file for file in contents]


def _run_with(results: pd.DataFrame) -> str:
    found = results["run_with"].dropna() if "run_with" in results else pd.Series(dtype=str)
    return "; ".join(dict.fromkeys(map(str, found)))


def _unwritable(folder: Path, error: OSError) -> DeepSADError:
    return DeepSADError(f"the ranks cannot be written into {folder} ({error}); give a writable folder")
