"""The page of a benchmark's ranks as Markdown."""

import math
from collections.abc import Mapping, Sequence

from deepsad_pl.common.counting import counted
from deepsad_pl.report.dataset_table import BLANK, table_lines
from deepsad_pl.report.rank_statistics import RankStatistics, p_text
from deepsad_pl.report.rank_tests import RESAMPLES
from deepsad_pl.report.significance import ALPHA, lowest_p

_LISTED = 10  # cells with too few seeds that are listed


def ranks_markdown(
    title: str,
    found: Sequence[RankStatistics],
    metric: str,
    headings: Mapping[str, str],
    figures: Mapping[str, str],
    curves: str | None,
    run_with: str = "",
) -> str:
    """The page: an overview, and for each label budget ranks, tests, diagram and the table of data sets.

    Args:
        title: title of the benchmark.
        found: statistics of each label budget.
        metric: the metric as named in texts.
        headings: the name of each method.
        figures: the file of the critical-difference diagram by the name of the budget, for those that have one.
        curves: the file of the figure over the numbers of labels, if there is one.
        run_with: settings by which the experiments differ from the benchmark's own, if there are any.
    """
    lines = [
        f"# {title}",
        "",
        about_ranks(metric, "Square brackets"),
        "",
    ]
    if run_with:
        lines += [f"The experiments differ from the benchmark's own: {run_with}.", ""]
    if len(found) > 1:
        lines += ["## Overview", "", *_overview(found, metric, headings), ""]
    if curves:
        lines += [f"![{metric} and mean rank against the number of labeled anomalies]({curves})", ""]
    for one in found:
        lines += _of_budget(one, metric, headings, figures.get(one.budget.name))
    return "\n".join(lines)


def about_ranks(metric: str, intervals: str) -> str:
    """What the numbers of a page are.

    Args:
        metric: the metric as named in texts.
        intervals: what shows the intervals, in the plural.
    """
    return (
        f"Values are {metric} in percent, means over the seeds. Methods are ranked by them within each data set: 1 is "
        "the best, and equal values share their mean rank. Means and mean ranks are over the data sets on which every "
        f"method has a value. {intervals} are 95 % intervals from {RESAMPLES:,} bootstrap samples of the data "
        f"sets. Tests are over data sets, at the level of {100 * ALPHA:.0f} %."
    )


def _overview(found: Sequence[RankStatistics], metric: str, headings: Mapping[str, str]) -> list[str]:
    last = found[-1].summary.index
    methods = [*last, *(name for name in headings if name not in last)]
    rows = [["method", *(one.budget.name for one in found)]]
    for method in methods:
        row = [headings[str(method)]]
        for one in found:
            known = method in one.summary.index and not math.isnan(one.summary.loc[method, "rank"])
            if not known:
                row.append(BLANK)
                continue
            rank, mean = one.summary.loc[method, "rank"], 100 * one.summary.loc[method, "mean"]
            text = f"{rank:.2f}"
            row.append(f"{f'**{text}**' if rank == one.summary['rank'].min() else text} ({mean:.1f})")
        rows.append(row)
    counts = ["data sets", *(str(len(one.ranks)) for one in found)]
    told = f"Mean rank, and mean {metric} in brackets, by the number of labeled anomalies:"
    return [told, "", *_table([*rows, counts])]


def _of_budget(found: RankStatistics, metric: str, headings: Mapping[str, str], figure: str | None) -> list[str]:
    lines = [f"## {found.budget.title}", ""]
    if len(found.ranks):
        rows = [["method", "mean rank", f"mean {metric}"]]
        for method, row in found.summary.iterrows():
            rank = f"{row['rank']:.2f}{_interval(row['rank_low'], row['rank_high'], 2)}"
            mean = f"{100 * row['mean']:.1f}{_interval(100 * row['mean_low'], 100 * row['mean_high'], 1)}"
            rows.append([headings[str(method)], rank, mean])
        lines += [*_table(rows), ""]
    if figure:
        lines += [f"![Critical-difference diagram: {found.budget.title}]({figure})", ""]
    told = [*test_sentences(found, headings), *gap_sentences(found, headings), *informed_sentences(found, headings)]
    notes = [f"- {text}" for text in told]
    lines += [note.replace("_", r"\_") for note in notes]
    table = [["data set", *(headings[str(method)] for method in found.ranks.columns)]]
    for line in table_lines(found):
        shown = zip(line.texts, line.best, line.informed, strict=True)
        texts = [(f"**{text}**" if best else text) + ("†" if informed else "") for text, best, informed in shown]
        table.append([line.name if line.counts else f"{line.name} (not ranked)", *texts])
    return [*lines, "", f"{metric} in percent; the best of each row is bold:", "", *_table(table), ""]


def _interval(low: float, high: float, digits: int) -> str:
    return "" if math.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"


def test_sentences(found: RankStatistics, headings: Mapping[str, str]) -> list[str]:
    """What the tests of a label budget find; a sentence may go on with lines of a nested list.

    Args:
        found: its statistics.
        headings: the name of each method.
    """
    n, k, test = len(found.ranks), len(found.ranks.columns), found.friedman
    size = f"{counted(n, 'data set')} and {counted(k, 'method')}"
    if test is None:
        told = [f"No Friedman test: it needs three methods and two data sets with a value of each; there are {size}."]
        return told + _pairs(found, headings)
    f = "infinite" if math.isinf(test.f) else f"{test.f:.2f}"
    told = [
        f"Friedman test over {size}: chi-squared {test.chi2:.2f}, {p_text(test.p)}; Iman and Davenport's F {f}, "
        f"{p_text(test.p_f)}."
    ]
    if test.rejects:
        told.append(
            f"Nemenyi test: two methods differ if their mean ranks are at least {found.difference:.2f} apart (CD); "
            "bars connect methods that it cannot tell apart."
        )
    else:
        told.append("The Friedman test finds no difference, so the diagram connects all methods.")
    return told + _pairs(found, headings)


def _pairs(found: RankStatistics, headings: Mapping[str, str]) -> list[str]:
    pairs, n = found.pairs, len(found.ranks)
    if not len(pairs):
        return []
    tests = f"Wilcoxon signed-rank tests of {counted(len(pairs), 'pair')}, with Holm's correction"
    if lowest_p(n) * len(pairs) > ALPHA:
        least = f"{lowest_p(n) * len(pairs):.2g}" if lowest_p(n) * len(pairs) < 1 else "1"
        return [f"{tests}: over {counted(n, 'data set')} no pair can differ, since no corrected p is below {least}."]
    different = pairs[pairs["p_holm"] < ALPHA]
    if not len(different):
        return [f"{tests}: no pair differs."]
    groups = {str(better): [headings[name] for name in other] for better, other in different.groupby("better")["other"]}
    lines = [
        f"  - {headings[better]} is better than {', '.join(groups[better])}."
        for better in map(str, found.summary.index)
        if better in groups
    ]
    return ["\n".join([f"{tests}: {len(different)} {'differs' if len(different) == 1 else 'differ'}.", *lines])]


def gap_sentences(found: RankStatistics, headings: Mapping[str, str]) -> list[str]:
    """What a label budget lacks: methods and data sets that are not ranked, and seeds.

    Args:
        found: its statistics.
        headings: the name of each method.
    """
    told = []
    if found.absent:
        told.append(f"Not ranked, without any value: {', '.join(headings[name] for name in found.absent)}.")
    if found.left_out:
        count = len(found.ranks.columns)
        sets = (
            f"{name} ({'all methods' if len(missing) == count else ', '.join(headings[m] for m in missing)})"
            for name, missing in found.left_out.items()
        )
        told.append(
            f"{counted(len(found.left_out), 'data set')} left out, with the methods without a value: {'; '.join(sets)}."
        )
    seeds = found.budget.seeds
    most = int(seeds.to_numpy().max(initial=0))
    few = [
        f"{headings[str(method)]} on {name} ({seeds.loc[name, method]})"
        for name in seeds.index
        for method in seeds.columns
        if 0 < seeds.loc[name, method] < most
    ]
    if few:
        rest = f" and {len(few) - _LISTED} more" if len(few) > _LISTED else ""
        told.append(f"Fewer than {most} seeds: {', '.join(few[:_LISTED])}{rest}.")
    else:
        told.append(f"Every value is a mean over {counted(most, 'seed')}.")
    if uneven := found.budget.uneven:
        rest = f" and {len(uneven) - _LISTED} more" if len(uneven) > _LISTED else ""
        told.append(
            "Methods have different seeds or normal classes, and their values are means over different experiments, on "
            f"{', '.join(uneven[:_LISTED])}{rest}."
        )
    return told


def informed_sentences(found: RankStatistics, headings: Mapping[str, str]) -> list[str]:
    """What the mark † means, and at which methods and data sets it is; none if nothing is marked.

    Args:
        found: statistics of the label budget.
        headings: the name of each method.
    """
    marked: dict[tuple[str, ...], list[str]] = {}
    for method in found.ranks.columns:
        column = found.budget.informed[method]
        marked.setdefault(tuple(map(str, column.index[column])), []).append(headings[str(method)])
    marked.pop((), None)
    where = "; ".join(f"{', '.join(methods)} on {', '.join(names)}" for names, methods in marked.items())
    told = "test-informed, so possibly optimistic, by settings or learning rates that were chosen with test labels"
    return [f"† {told}: {where}."] if marked else []


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    escaped = [[text.replace("|", r"\|") for text in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(*escaped, strict=True)]
    ruler = ["-" * width for width in widths]
    return [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in (escaped[0], ruler, *escaped[1:])
    ]
