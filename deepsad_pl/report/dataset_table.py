"""The table of one label budget as rows of text: a row per data set, then the means and the mean ranks."""

import math
from dataclasses import dataclass

from deepsad_pl.report.rank_statistics import RankStatistics

BLANK = "-"
_DIGITS = 12


@dataclass(frozen=True)
class TableLine:
    """A row of the table.

    Attributes:
        name: the data set, ``mean`` or ``mean rank``.
        texts: a text per method: a percentage or a rank.
        best: whether each is the best of its row.
        informed: whether each is test-informed, or a mean over some that are.
        counts: whether the data set counts for means and ranks.
    """

    name: str
    texts: list[str]
    best: list[bool]
    informed: list[bool]
    counts: bool = True


def table_lines(found: RankStatistics) -> list[TableLine]:
    """The rows of the table, of which the last two are the means over the data sets that count.

    Args:
        found: statistics of the budget; its methods with any value are the columns.
    """
    methods = found.ranks.columns
    informed = found.budget.informed[methods]
    marks: list[list[bool]] = informed.to_numpy().tolist()
    lines = [
        _line(str(name), (100 * row.reindex(methods)).tolist(), mark, highest=True, counts=name in found.ranks.index)
        for (name, row), mark in zip(found.budget.means.iterrows(), marks, strict=True)
    ]
    some = informed.loc[found.ranks.index].any().tolist()
    means, ranks = found.summary["mean"].reindex(methods), found.summary["rank"].reindex(methods)
    return [
        *lines,
        _line("mean", (100 * means).tolist(), some, highest=True),
        _line("mean rank", ranks.tolist(), some, highest=False, digits=2),
    ]


def _line(
    name: str, values: list[float], informed: list[bool], *, highest: bool, counts: bool = True, digits: int = 1
) -> TableLine:
    rounded = [round(value, _DIGITS - 2) for value in values]
    known = [value for value in rounded if not math.isnan(value)]
    best = (max(known) if highest else min(known)) if known else None
    texts = [BLANK if math.isnan(value) else f"{value:.{digits}f}" for value in values]
    return TableLine(name, texts, [value == best for value in rounded], informed, counts)
