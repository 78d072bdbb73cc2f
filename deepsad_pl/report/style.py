"""Styles of the columns; color, line and marker distinguish them in greyscale and for color-blind readers, too."""

import io
import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib import style as matplotlib_style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deepsad_pl.common.files import write_atomic
from deepsad_pl.settings.about import column_of, of_method, own, own_columns

# Okabe and Ito's palette, with a darker yellow, since theirs is too light for a line on white.
_COLORS = {
    **{"black": "#000000", "orange": "#E69F00", "sky": "#56B4E9", "green": "#009E73", "yellow": "#B8A800"},
    **{"blue": "#0072B2", "red": "#D55E00", "pink": "#CC79A7", "grey": "#6E6E6E"},
}
_LINES = {"solid": "-", "dashed": "--", "dotted": ":", "dashdot": "-."}

# Maximum width in inches: the text width of a page, so that figures are not scaled down in print.
PAGE = 7.2
# Letters of a title per inch.
_LETTERS = 14
_LINE = 0.14  # height of a line in inches

RC: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "figure.titlesize": 9,
    "legend.fontsize": 8,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.linewidth": 0.6,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    # Keep text as text, and make the output reproducible byte by byte.
    "svg.fonttype": "none",
    "svg.hashsalt": "deepsad_pl",
}


def look(**changes: Any) -> AbstractContextManager[None]:
    """Context in which figures are drawn and saved with our matplotlib settings instead of the user's."""
    return matplotlib_style.context(["default", {**RC, **changes}])


@dataclass(frozen=True)
class Style:
    """The style of a column.

    Attributes:
        color: color of its family of methods.
        line: matplotlib line style; solid for deep methods and methods on raw inputs, dashed for hybrids.
        marker: matplotlib marker, unique to the column.
        front: whether it is drawn in front of all others.
    """

    color: str
    line: Any
    marker: str
    front: bool = False


_OTHERS = [
    Style(_COLORS[color], (0, (5, 1, 1, 1)), marker)
    for color, marker in itertools.product(("black", "blue", "green", "red"), ("*", "H", "4"))
]


def style_of(column: str) -> Style:
    """The declared style of one of the package's columns, or a generic style for a user's own method."""
    if column not in own_columns():
        return _OTHERS[sum(map(ord, column)) % len(_OTHERS)]
    declared = own_columns()[column].style
    return Style(_COLORS[declared["color"]], _LINES[declared["line"]], declared["marker"], declared.get("front", False))


def styles_of(methods: Sequence[str]) -> dict[str, Style]:
    """The style of each method: its column's, or a generic one if another method has that already.

    Args:
        methods: names of methods.
    """
    found: dict[str, Style] = {}
    for method in methods:
        node = own("method").get(method)
        style = style_of(column_of(method, of_method(node)) if node else method)
        if style in found.values():
            style = next((other for other in _OTHERS if other not in found.values()), style)
        found[method] = style
    return found


def new_figure(width: float, height: float) -> Figure:
    """An empty figure without a display; width and height in inches. Use it within :func:`look`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def set_title(figure: Figure, title: str, *lines: str) -> None:
    """Write a title and smaller lines of information above a figure. Use it within :func:`look`.

    Args:
        figure: the figure, with its final width, to which lines are wrapped; all lines but the first add to its height.
        title: title of the figure; may be empty.
        lines: further lines; empty ones are skipped.
    """
    width, height = map(float, figure.get_size_inches())
    told = [fill(line, int(width * _LETTERS), break_on_hyphens=False) for line in (title, *lines) if line]
    # A single text, since matplotlib's layout reserves room for one title only.
    text = "\n".join(told)
    figure.suptitle(text, fontsize=RC["axes.titlesize" if any(lines) else "figure.titlesize"])
    # Enlarge the figure, so that the panels keep their size.
    figure.set_size_inches(width, height + _LINE * text.count("\n"))


def rendered(figure: Figure, name: str) -> dict[str, bytes]:
    """Render ``<name>.png`` and ``<name>.svg`` to bytes."""
    contents = {}
    with look():
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            content = io.BytesIO()
            figure.savefig(content, format=kind, dpi=300, metadata=metadata)
            contents[f"{name}.{kind}"] = content.getvalue()
    return contents


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write ``<name>.png`` and ``<name>.svg`` atomically."""
    contents = rendered(figure, name)
    for file, content in contents.items():
        write_atomic(folder / file, content)
    return [folder / file for file in contents]
