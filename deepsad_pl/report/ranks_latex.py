"""The ranks of a benchmark and its tables of data sets as LaTeX."""

import math
from collections.abc import Mapping, Sequence

from deepsad_pl.report.dataset_table import BLANK, TableLine, table_lines
from deepsad_pl.report.latex import escaped
from deepsad_pl.report.rank_statistics import RankStatistics

_UPRIGHT = 6  # columns whose headings need not be turned
_NEEDS = "% \\usepackage{booktabs} and, for turned headings, \\usepackage{graphicx}."


def ranks_latex(title: str, found: Sequence[RankStatistics], metric: str, headings: Mapping[str, str]) -> str:
    r"""A table of mean ranks and means, and a table of data sets for each label budget.

    They need ``\usepackage{booktabs}``; with more than six methods also ``\usepackage{graphicx}``.

    Args:
        title: title of the benchmark.
        found: statistics of each label budget.
        metric: the metric as named in texts.
        headings: the name of each method.
    """
    tables = [_overview(title, found, metric, headings)]
    tables += [_of_datasets(title, one, metric, headings) for one in found]
    return "\n".join([_NEEDS, *tables])


def _overview(title: str, found: Sequence[RankStatistics], metric: str, headings: Mapping[str, str]) -> str:
    last = found[-1]
    methods = [*last.summary.index, *(name for name in headings if name not in last.summary.index)]
    names = [one.budget.name for one in found]
    head = [
        " & ".join(["", *(rf"\multicolumn{{2}}{{c}}{{{escaped(name)}}}" for name in names)]) + r" \\",
        " & ".join(["method", *(["rank", escaped("%")] * len(names))]) + r" \\",
    ]
    body = []
    for method in methods:
        texts = [escaped(headings[str(method)])]
        for one in found:
            if method not in one.summary.index or math.isnan(one.summary.loc[method, "rank"]):
                texts += ["--", "--"]
                continue
            row = one.summary.loc[method]
            rank = f"{row['rank']:.2f}"
            texts += [rf"\textbf{{{rank}}}" if row["rank"] == one.summary["rank"].min() else rank]
            texts += [f"{100 * row['mean']:.1f}"]
        body.append(" & ".join(texts) + r" \\")
    counts = ", ".join(f"{one.budget.name}: {len(one.ranks)}" for one in found)
    caption = (
        f"{title}. Mean rank (1 is the best) and mean {metric} in percent by number of labeled anomalies, over the "
        f"data sets with a value of every method ({counts})."
    )
    return _table(r"\small", "l" + "rr" * len(found), head, body, caption)


def _of_datasets(title: str, found: RankStatistics, metric: str, headings: Mapping[str, str]) -> str:
    names = [escaped(headings[str(method)]) for method in found.ranks.columns]
    turned = len(names) > _UPRIGHT
    heads = [rf"\rotatebox{{90}}{{{name}}}" if turned else name for name in names]
    lines = table_lines(found)
    body = [*map(_line, lines[:-2]), r"\midrule", *map(_line, lines[-2:])]
    caption = f"{title}. {found.budget.title}: {metric} in percent, mean over seeds. The best of each row is bold."
    if found.left_out:
        caption += f" Means and ranks are over the {len(found.ranks)} data sets with a value of every method."
    if any(any(line.informed) for line in lines):
        caption += " † depends on a choice that was made with test labels."
    size = r"\scriptsize" if turned else r"\footnotesize"
    return _table(size, "l" + "r" * len(names), [" & ".join(["data set", *heads]) + r" \\"], body, caption)


def _line(line: TableLine) -> str:
    texts = ["--" if text == BLANK else text for text in line.texts]
    shown = zip(texts, line.best, line.informed, strict=True)
    marked = [
        (rf"\textbf{{{text}}}" if best else text) + (escaped("†") if informed else "") for text, best, informed in shown
    ]
    return " & ".join([escaped(line.name), *marked]) + r" \\"


def _table(size: str, columns: str, head: Sequence[str], body: Sequence[str], caption: str) -> str:
    lines = [
        r"\begin{table}",
        r"\centering",
        size,
        r"\setlength{\tabcolsep}{3pt}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        rf"\caption{{{escaped(caption)}}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"
