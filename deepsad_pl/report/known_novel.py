"""Known and novel anomalies side by side: the table "known | novel" and its figure."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from deepsad_pl.report.cells import DDOF, Cell, Place, make_cells
from deepsad_pl.report.columns import describe, heading, in_order
from deepsad_pl.report.figures import AXIS_NAMES, DOTS, dot_panel, legend, legend_height, panel
from deepsad_pl.report.latex import escaped, latex_table, small_size
from deepsad_pl.report.layout import grid_of, number, table_rows
from deepsad_pl.report.markdown import aligned, listed
from deepsad_pl.report.notes import KNOWN_NOVEL
from deepsad_pl.report.style import PAGE, look, new_figure, set_title

NAME = "known_novel"
_PANELS = 3  # pairs of panels side by side
_NOTES = (
    f"AUROC in percent, known | novel: means, and beneath them standard deviations (ddof {DDOF}) over n; the best of "
    "each kind in a row is bold.",
    *KNOWN_NOVEL,
)


@dataclass(frozen=True)
class KnownNovel:
    """The cells of the table, twice.

    Attributes:
        known: cells with the AUROC of known anomalies.
        novel: cells with the AUROC of novel anomalies, at the same places in the same order.
    """

    known: list[Cell]
    novel: list[Cell]

    def pair(self, cell: Cell) -> tuple[Cell, Cell]:
        """The known and the novel cell at the place of a known one."""
        return cell, self._novel[cell.place]

    @cached_property
    def _novel(self) -> dict[Place, Cell]:
        return {cell.place: cell for cell in self.novel}


def known_novel_of(by_known: pd.DataFrame, axes: Sequence[str], variants: Mapping[Place, str]) -> KnownNovel | None:
    """Make the cells; None if no cell has both known and novel anomalies.

    Args:
        by_known: as for :func:`deepsad_pl.report.write_report`.
        axes: names of the axes.
        variants: the variant that each cell of the main table shows.
    """
    if by_known.empty:
        return None
    known, novel = (
        # Their tests are made if study.metric asks for one of them.
        [replace(cell, significant=False) for cell in made]
        for made, _ in (
            make_cells(by_known, axes, with_paper=False, metric=metric, variants=variants)
            for metric in ("auroc_known", "auroc_novel")
        )
    )
    return KnownNovel(known, novel) if any(a.n and b.n for a, b in zip(known, novel, strict=True)) else None


def known_novel_notes(run_with: str) -> list[str]:
    """The notes beneath the table.

    Args:
        run_with: settings that differ from the study's own; may be empty.
    """
    told = f"The experiments were run with {run_with}, unlike the study's own settings."
    return [*([told] if run_with else []), *_NOTES]


def known_novel_markdown(title: str, found: KnownNovel, axes: Sequence[str], run_with: str) -> str:
    """The table as Markdown; three lines for each row: means, standard deviations, numbers of experiments."""
    columns, rows = table_rows(found.known)
    table = [["data set", *axes, *map(heading, columns)]]
    for row in rows:
        pairs = [None if cell is None else found.pair(cell) for cell in row.cells]
        for number_of_line, line in enumerate((means, _stds, _counts)):
            head = [row.dataset, *row.values] if not number_of_line else [""] * (1 + len(axes))
            table.append([*head, *("" if pair is None else line(*pair) for pair in pairs)])
    return "\n".join([f"# {title}: known | novel", "", *aligned(table), "", *listed(known_novel_notes(run_with)), ""])


def means(known: Cell, novel: Cell, bold: tuple[str, str] = ("**", "**")) -> str:
    """``99.2 | 93.1``, with the best means of the row in bold; ``-`` where nothing is finished."""
    texts = [_mean(cell) for cell in (known, novel)]
    if not any(texts):
        return ""
    shown = [
        f"{bold[0]}{text}{bold[1]}" if cell.best else text for cell, text in zip((known, novel), texts, strict=True)
    ]
    return " | ".join(shown)


def _mean(cell: Cell) -> str:
    if not cell.n:
        return "-" if cell.expected else ""
    return cell.measure.number(cell.mean)


def _stds(known: Cell, novel: Cell) -> str:
    texts = ["" if math.isnan(cell.std) else f"± {cell.measure.number(cell.std)}" for cell in (known, novel)]
    return " | ".join(texts) if any(texts) else ""


def _counts(known: Cell, novel: Cell) -> str:
    counts = [_count(cell) for cell in (known, novel)]
    if not any(counts):
        return ""
    return f"n {counts[0]}" if counts[0] == counts[1] else "n " + " | ".join(count or "0" for count in counts)


def _count(cell: Cell) -> str:
    if not cell.expected:
        return ""
    return str(cell.n) if cell.n == cell.expected else f"{cell.n} of {cell.expected}"


def known_novel_latex(title: str, found: KnownNovel, axes: Sequence[str], run_with: str) -> str:
    """The table as LaTeX, in lines as in Markdown."""
    columns, rows = table_rows(found.known)
    small = small_size(len(columns))

    def in_small(text: str) -> str:
        return f"{{{small} {escaped(text)}}}" if text else ""

    body = []
    for row in rows:
        pairs = [None if cell is None else found.pair(cell) for cell in row.cells]
        best = ["" if pair is None else _latex_means(*pair) for pair in pairs]
        rest = [["" if pair is None else in_small(line(*pair)) for pair in pairs] for line in (_stds, _counts)]
        body.append((row, [best, *rest]))
    return latex_table(f"{title}: known | novel", columns, axes, body, known_novel_notes(run_with))


def _latex_means(known: Cell, novel: Cell) -> str:
    # The marks of bold print must survive the escaping.
    text = escaped(means(known, novel, ("\x02", "\x03")))
    return text.replace("\x02", r"\textbf{").replace("\x03", "}")


def known_novel_csv(found: KnownNovel, axes: Sequence[str], run_with: str) -> str:
    """The cells as CSV, one line per cell; means and standard deviations in percent."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    kinds = [f"{kind}_{what}" for kind in ("known", "novel") for what in ("mean", "std", "n", "expected")]
    writer.writerow(["dataset", *axes, "column", "variant", *kinds, "run_with"])
    for cell in found.known:
        values = [
            value for one in found.pair(cell) for value in (number(one.mean), number(one.std), one.n, one.expected)
        ]
        writer.writerow([cell.dataset, *cell.row.values(), cell.column, cell.variant, *values, run_with])
    return text.getvalue()


def known_novel_figure(title: str, found: KnownNovel, axes: Sequence[str], run_with: str) -> Figure:
    """Draw known anomalies above novel ones, on the same scale: lines over the first axis, or dots without one."""
    with look():
        over_axis = axes and len({cell.row[axes[0]] for cell in found.known}) > 1
        figure = _over_axis(found, axes) if over_axis else _dots(found)
        told = "AUROC of known anomalies (above) and of novel ones (below)"
        set_title(figure, title, told, f"run with {run_with}" if run_with else "")
        return figure


def _over_axis(found: KnownNovel, axes: Sequence[str]) -> Figure:
    panels: dict[str, list[Cell]] = {}
    for cell in found.known:
        others = describe({axis: cell.row[axis] for axis in axes[1:]})
        panels.setdefault(", ".join(filter(None, (cell.dataset, others))), []).append(cell)
    columns = in_order(cell.column for cell in found.known if cell.n)
    wide = min(len(panels), _PANELS)
    blocks = math.ceil(len(panels) / wide)
    width, height = (PAGE, 2.3) if wide > 1 else (5.2, 2.4)
    figure = new_figure(width, 2 * height * blocks + legend_height(found.known, columns, width))
    grid = figure.subplots(2 * blocks, wide, squeeze=False)
    for place in grid.flat:
        place.set_axis_off()
    for position, (name, cells) in enumerate(panels.items()):
        block, across = divmod(position, wide)
        pair = grid[2 * block, across], grid[2 * block + 1, across]
        for place, of_kind in zip(pair, _kinds(found, cells), strict=True):
            place.set_axis_on()
            panel(place, of_kind, columns, axes[0])
        _same_scale(pair)
        pair[0].set_title(name)
        pair[1].set_xlabel(AXIS_NAMES.get(axes[0], axes[0]))
        if not across:
            for place, kind in zip(pair, ("known", "novel"), strict=True):
                place.set_ylabel(f"{kind}: AUROC in %")
    legend(figure, found.known, columns, lines=True)
    return figure


def _kinds(found: KnownNovel, cells: Iterable[Cell]) -> list[list[Cell]]:
    return [list(kind) for kind in zip(*(found.pair(cell) for cell in cells), strict=True)]


def _same_scale(places: Sequence[Any]) -> None:
    limits = [place.get_ylim() for place in places]
    for place in places:
        place.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def _dots(found: KnownNovel) -> Figure:
    columns = in_order(cell.column for cell in found.known if cell.n)
    groups = {
        "\n".join(filter(None, (dataset, describe(next(iter(cells.values())).row)))): list(cells.values())
        for (dataset, _), cells in grid_of(found.known).items()
    }
    per_line = max(1, DOTS // len(columns))
    blocks = math.ceil(len(groups) / per_line)
    wide = math.ceil(len(groups) / blocks)
    width = min(PAGE, max(5.2, 1.0 + 0.11 * (len(columns) + 2) * wide))
    figure = new_figure(width, 2 * 2.3 * blocks + legend_height(found.known, columns, width))
    grid = figure.subplots(2 * blocks, 1, squeeze=False)[:, 0]
    for block in range(blocks):
        shown = list(groups)[block * wide : (block + 1) * wide]
        pair = grid[2 * block], grid[2 * block + 1]
        for kind, place in enumerate(pair):
            dot_panel(place, {name: _kinds(found, groups[name])[kind] for name in shown}, columns)
            place.set_xlim(-0.5, wide - 0.5)
            place.set_ylabel(f"{('known', 'novel')[kind]}: AUROC in %")
        _same_scale(pair)
    legend(figure, found.known, columns, lines=False)
    return figure
