"""How a column is drawn: told apart by colour, by line and by marker, so also in grey and by the colour-blind."""

import io
import itertools
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib import style as matplotlib_style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deepsad_pl.common.files import write_atomic
from deepsad_pl.settings.about import own_columns

# Okabe and Ito's colours; their yellow is too light for a line on white and is darkened.
_COLORS = {
    **{"black": "#000000", "orange": "#E69F00", "sky": "#56B4E9", "green": "#009E73", "yellow": "#B8A800"},
    **{"blue": "#0072B2", "red": "#D55E00", "pink": "#CC79A7", "grey": "#6E6E6E"},
}
_LINES = {"solid": "-", "dashed": "--", "dotted": ":", "dashdot": "-."}

# Inches: the text of a page is not wider, so that nothing is made smaller in print.
PAGE = 7.2
# How many letters of a title fit into an inch.
_LETTERS = 14
_LINE = 0.14  # inches

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
    # Text stays text, and the same records give the same bytes.
    "svg.fonttype": "none",
    "svg.hashsalt": "deepsad_pl",
}


def look(**changes: Any) -> AbstractContextManager[None]:
    """How figures look while they are drawn and saved, whatever the user's own settings of matplotlib are."""
    return matplotlib_style.context(["default", {**RC, **changes}])


@dataclass(frozen=True)
class Style:
    """Of a column.

    Attributes:
        color: of its family.
        line: of matplotlib; solid on raw inputs and for deep methods, dashed for hybrids.
        marker: its own.
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
    """The style that a column of the package's own declares, or one for somebody's own method."""
    if column not in own_columns():
        return _OTHERS[sum(map(ord, column)) % len(_OTHERS)]
    declared = own_columns()[column].style
    return Style(_COLORS[declared["color"]], _LINES[declared["line"]], declared["marker"], declared.get("front", False))


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches, for no display. Use it within :func:`look`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def set_title(figure: Figure, title: str, *lines: str) -> None:
    """Write the title above a figure, and smaller what a reader must know about all of it. Use it within :func:`look`.

    Args:
        figure: has its final width, where lines that are too long are broken; grows by all lines but the first.
        title: of the figure; may be empty.
        lines: those that are empty are left out.
    """
    width, height = map(float, figure.get_size_inches())
    told = [fill(line, int(width * _LETTERS), break_on_hyphens=False) for line in (title, *lines) if line]
    # One text, since the layout keeps room for one title only.
    text = "\n".join(told)
    figure.suptitle(text, fontsize=RC["axes.titlesize" if any(lines) else "figure.titlesize"])
    # The panels keep their size.
    figure.set_size_inches(width, height + _LINE * text.count("\n"))


def rendered(figure: Figure, name: str) -> dict[str, bytes]:
    """The contents of ``<name>.png`` and ``<name>.svg``."""
    contents = {}
    with look():
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            content = io.BytesIO()
            figure.savefig(content, format=kind, dpi=300, metadata=metadata)
            contents[f"{name}.{kind}"] = content.getvalue()
    return contents


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write ``<name>.png`` and ``<name>.svg``, each whole or not at all."""
    contents = rendered(figure, name)
    for file, content in contents.items():
        write_atomic(folder / file, content)
    return [folder / file for file in contents]
