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

from deepsad_pl.files import write_atomic

# Okabe and Ito's colours; their yellow is too light for a line on white and is darkened.
_BLACK, _ORANGE, _SKY, _GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
_YELLOW, _BLUE, _RED, _PINK, _GREY = "#B8A800", "#0072B2", "#D55E00", "#CC79A7", "#6E6E6E"

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
    """

    color: str
    line: Any
    marker: str


_STYLES = {
    "ocsvm_raw": Style(_SKY, "-", "s"),
    "ocsvm_hybrid": Style(_SKY, "--", "p"),
    "iforest_raw": Style(_YELLOW, "-", "v"),
    "iforest_hybrid": Style(_YELLOW, "--", "8"),
    "kde_raw": Style(_GREY, "-", "<"),
    "kde_hybrid": Style(_GREY, "--", ">"),
    "cae": Style(_PINK, "-", "P"),
    "deep_svdd": Style(_GREEN, "-", "^"),
    "ssad_raw": Style(_ORANGE, "-", "D"),
    "ssad_hybrid": Style(_ORANGE, "--", "d"),
    "ss_dgm": Style(_BLACK, ":", "h"),
    "deep_sad": Style(_BLUE, "-", "o"),
    "classifier": Style(_RED, "-.", "X"),
}
_OTHERS = [
    Style(color, (0, (5, 1, 1, 1)), marker)
    for color, marker in itertools.product((_BLACK, _BLUE, _GREEN, _RED), ("*", "H", "4"))
]


def style_of(column: str) -> Style:
    """The style of a column of the paper, or one for somebody's own method."""
    return _STYLES.get(column) or _OTHERS[sum(map(ord, column)) % len(_OTHERS)]


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
