"""Known and novel anomalies side by side: the table "known | novel" and its figure."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd
from matplotlib.figure import Figure

from deepsad_pl.common.figure_format import PAGE, FigureFormat
from deepsad_pl.report.cells import DDOF, Cell, Place, make_cells
from deepsad_pl.report.columns import heading, in_order
from deepsad_pl.report.dot_panels import dot_figure
from deepsad_pl.report.figures import AXIS_NAMES, SIDES, bars_told, line_groups, make_room, set_head
from deepsad_pl.report.latex import escaped, latex_table, small_size
from deepsad_pl.report.layout import number, table_rows
from deepsad_pl.report.legends import column_entries, legend, mark_entries
from deepsad_pl.report.line_panels import Curve, draw_metric, metric_curves, shared_view
from deepsad_pl.report.markdown import aligned, listed
from deepsad_pl.report.notes import INFORMED, KNOWN_NOVEL
from deepsad_pl.report.style import MEDIUM, look, new_figure, set_title, styles_of_columns
from deepsad_pl.report.text_width import wrapped

NAME = "known_novel"
_HEIGHT = 2.0  # of a panel, in inches
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


def in_common(by_known: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """The experiments whose normal class, known class and seed all cells and variants of their data set have.

    How hard anomalies are to find depends on these, and a method may have been run with a sample of them and another
    with all, as may two values of an axis. If the cells of a data set share none, all experiments are kept.

    Args:
        by_known: as for :func:`deepsad_pl.report.write_report`.
        axes: names of the axes.
    """
    pairing = by_known[["normal_class", "anomaly_class", "seed"]].fillna("")
    keys = pd.Series([*pairing.itertuples(index=False, name=None)], by_known.index, dtype=object)
    kept = pd.Series(True, by_known.index)
    for _, of_dataset in by_known.groupby("dataset"):
        cells = of_dataset.groupby([*axes, "column", "variant"], dropna=False)
        if shared := set.intersection(*(set(keys[cell.index]) for _, cell in cells)):
            kept[of_dataset.index] = keys[of_dataset.index].isin(shared)
    return by_known[kept]


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


def known_novel_notes(found: KnownNovel, run_with: str) -> list[str]:
    """The notes beneath the table.

    Args:
        found: the cells.
        run_with: settings that differ from the study's own; may be empty.
    """
    told = f"The experiments were run with {run_with}, unlike the study's own settings."
    informed = [INFORMED] if any(_is_informed(*found.pair(cell)) for cell in found.known) else []
    return [*([told] if run_with else []), *_NOTES, *informed]


def _is_informed(known: Cell, novel: Cell) -> bool:
    return any(cell.n and cell.test_informed for cell in (known, novel))


def known_novel_markdown(title: str, found: KnownNovel, axes: Sequence[str], run_with: str) -> str:
    """The table as Markdown; three lines for each row: means, standard deviations, numbers of experiments."""
    columns, rows = table_rows(found.known)
    table = [["data set", *axes, *map(heading, columns)]]
    for row in rows:
        pairs = [None if cell is None else found.pair(cell) for cell in row.cells]
        for number_of_line, line in enumerate((means, _stds, _counts)):
            head = [row.dataset, *row.values] if not number_of_line else [""] * (1 + len(axes))
            table.append([*head, *("" if pair is None else line(*pair) for pair in pairs)])
    return "\n".join(
        [f"# {title}: known | novel", "", *aligned(table), "", *listed(known_novel_notes(found, run_with)), ""]
    )


def means(known: Cell, novel: Cell, bold: tuple[str, str] = ("**", "**")) -> str:
    """``99.2 | 93.1``, the best means of the row in bold, † if test-informed; ``-`` where nothing is finished."""
    texts = [_mean(cell) for cell in (known, novel)]
    if not any(texts):
        return ""
    shown = [
        f"{bold[0]}{text}{bold[1]}" if cell.best else text for cell, text in zip((known, novel), texts, strict=True)
    ]
    return " | ".join(shown) + ("†" if _is_informed(known, novel) else "")


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
    return latex_table(f"{title}: known | novel", columns, axes, body, known_novel_notes(found, run_with))


def _latex_means(known: Cell, novel: Cell) -> str:
    # The marks of bold print must survive the escaping.
    text = escaped(means(known, novel, ("\x02", "\x03")))
    return text.replace("\x02", r"\textbf{").replace("\x03", "}")


def known_novel_csv(found: KnownNovel, axes: Sequence[str], run_with: str) -> str:
    """The cells as CSV, one line per cell; means and standard deviations in percent."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    kinds = [f"{kind}_{what}" for kind in ("known", "novel") for what in ("mean", "std", "n", "expected")]
    writer.writerow(["dataset", *axes, "column", "variant", *kinds, "test_informed", "run_with"])
    for cell in found.known:
        values = [
            value for one in found.pair(cell) for value in (number(one.mean), number(one.std), one.n, one.expected)
        ]
        informed = ", ".join(dict.fromkeys(reason for one in found.pair(cell) if one.n for reason in one.test_informed))
        writer.writerow([cell.dataset, *cell.row.values(), cell.column, cell.variant, *values, informed, run_with])
    return text.getvalue()


def known_novel_figure(
    title: str, found: KnownNovel, axes: Sequence[str], run_with: str, form: FigureFormat = PAGE
) -> Figure:
    """Draw known anomalies beside novel ones, on the same scale: lines over the first axis, or dots without one.

    Args:
        title: title of the study.
        found: the cells.
        axes: names of the axes.
        run_with: settings that differ from the study's own; may be empty.
        form: size of the figure.
    """
    with look():
        if not axes or len({cell.row[axes[0]] for cell in found.known}) < 2:
            return dot_figure(title, [("known", found.known), ("novel", found.novel)], run_with, form)
        return _over_axis(title, found, axes, run_with, form)


def _over_axis(title: str, found: KnownNovel, axes: Sequence[str], run_with: str, form: FigureFormat) -> Figure:
    # Where nothing tells known and novel anomalies apart, there is nothing to draw.
    told = [cell for cell in found.known if any(one.n for one in found.pair(cell))]
    panels = line_groups([cell for cell in found.known if any(cell.dataset == one.dataset for one in told)], axes)
    # A column may have novel anomalies only, such as one that is finished for k_l=0 alone.
    columns = in_order(cell.column for cell in (*found.known, *found.novel) if cell.n)
    styles = styles_of_columns(columns)
    wide = 1 if form.is_column else 2
    high = 2 * len(panels) // wide
    figure = new_figure(form.inches, _HEIGHT * high)
    inches = form.inches / wide - SIDES
    places = list(figure.subplots(high, wide, squeeze=False).flat)
    drawn: list[Curve] = []
    for order, (name, cells) in enumerate(panels.items()):
        pair = places[2 * order : 2 * order + 2]
        kinds = [list(kind) for kind in zip(*(found.pair(cell) for cell in cells), strict=True)]
        curves = [metric_curves(of_kind, columns, axes[0]) for of_kind in kinds]
        view = shared_view(curves, cells[0].measure)
        for place, of_kind, lines, kind in zip(pair, kinds, curves, ("known", "novel"), strict=True):
            off = draw_metric(place, of_kind, lines, styles, axes[0], bars=True, view=view)
            set_head(place, f"{name}: {kind} anomalies", off, inches)
            if kind == "known" or form.is_column:
                place.set_ylabel("AUROC in %")
            drawn += lines
    for place in places[-wide:]:
        place.set_xlabel(wrapped(AXIS_NAMES.get(axes[0], axes[0]), inches, MEDIUM))
    make_room(figure, places, wide)
    legend(figure, [*column_entries(columns, found.known, lines=True), *mark_entries([*found.known, *found.novel])])
    set_title(figure, title, f"run with {run_with}" if run_with else "", bars_told(drawn))
    return figure
