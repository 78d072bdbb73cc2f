"""Styles of the columns; color, line and marker distinguish them in greyscale and for color-blind readers, too."""

import io
import itertools
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import style as matplotlib_style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deepsad_pl.common.figure_format import PAGE, FigureFormat
from deepsad_pl.common.files import write_atomic
from deepsad_pl.report.text_width import wrapped
from deepsad_pl.settings.about import column_of, of_method, own, own_columns

# Okabe and Ito's palette, with a darker yellow, since theirs is too light for a line on white.
_COLORS = {
    **{"black": "#000000", "orange": "#E69F00", "sky": "#56B4E9", "green": "#009E73", "yellow": "#B8A800"},
    **{"blue": "#0072B2", "red": "#D55E00", "pink": "#CC79A7", "grey": "#6E6E6E"},
}
_LINES = {"solid": "-", "dashed": "--", "dotted": ":", "dashdot": "-."}
# Marks the best column of a row if it is significantly better than the second best.
STAR: Any = {"color": "black", "marker": (6, 2, 0), "markersize": 5.0, "markeredgewidth": 0.9, "linestyle": "none"}
# Marks the paper's results.
HOLLOW: Any = {"markerfacecolor": "white", "markeredgewidth": 0.6, "markersize": 3.4, "linestyle": "none"}
# Markers that consist of lines must be wide to be visible.
_THIN_MARKERS = frozenset("1234+x|_")

# Sizes of text in points: small for numbers and names, medium for axes and panels, large for a figure's title.
SMALL, MEDIUM, LARGE = 7.0, 8.0, 9.0
# Height of a line of text as a multiple of its size, in points.
_LEADING = 1.3
_DPI = 300

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": MEDIUM,
    "axes.titlesize": MEDIUM,
    "axes.labelsize": MEDIUM,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "figure.titlesize": LARGE,
    "legend.fontsize": SMALL,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.linewidth": 0.6,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.6,
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

    @property
    def drawn(self) -> dict[str, Any]:
        """Color and marker, as arguments of matplotlib's functions."""
        shape: dict[str, Any] = {"color": self.color, "marker": self.marker}
        return {**shape, "markeredgewidth": 1.2, "markersize": 5.0} if self.marker in _THIN_MARKERS else shape

    @property
    def in_grey(self) -> tuple[Any, str]:
        """What distinguishes it without colors: line and marker."""
        return self.line, self.marker

    @property
    def level(self) -> float:
        """Its place between front and back, matplotlib's zorder."""
        return 3.0 if self.front else 2.0


# For methods that declare no style; no two have both the same line and the same marker.
_OTHERS = [
    Style(_COLORS[color], (0, dashes), marker)
    for (color, dashes), marker in itertools.product(
        (("black", (5, 1, 1, 1)), ("blue", (3, 1, 1, 1, 1, 1)), ("green", (7, 2)), ("red", (2, 2))),
        "*H4" + "8hpds<>v^oPX",
    )
]
_USUAL = [one for one in _OTHERS if one.marker in "*H4"]


def style_of(column: str) -> Style:
    """The declared style of one of the package's columns, or a generic style for a user's own method."""
    if column not in own_columns():
        return _USUAL[sum(map(ord, column)) % len(_USUAL)]
    declared = own_columns()[column].style
    return Style(_COLORS[declared["color"]], _LINES[declared["line"]], declared["marker"], declared.get("front", False))


def styles_of_columns(columns: Sequence[str]) -> dict[str, Style]:
    """The style of each column; one that would look like another in grey gets a generic style."""
    return _told_apart({column: style_of(column) for column in columns})


def styles_of(methods: Sequence[str]) -> dict[str, Style]:
    """The style of each method: its column's, or a generic one if it would look like another method in grey.

    Args:
        methods: names of methods.
    """
    nodes = {method: own("method").get(method) for method in methods}
    return _told_apart(
        {method: style_of(column_of(method, of_method(node)) if node else method) for method, node in nodes.items()}
    )


def _told_apart(styles: dict[str, Style]) -> dict[str, Style]:
    found: dict[str, Style] = {}
    for name, style in styles.items():
        seen = {other.in_grey for other in found.values()}
        if style.in_grey in seen:
            style = next((other for other in (*_USUAL, *_OTHERS) if other.in_grey not in seen), style)
        found[name] = style
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
    size = MEDIUM if any(lines) else LARGE
    # A single text, since matplotlib's layout reserves room for one title only.
    text = "\n".join(wrapped(line, width - 0.2, size) for line in (title, *lines) if line)
    figure.suptitle(text, fontsize=size)
    # Enlarge the figure, so that the panels keep their size.
    figure.set_size_inches(width, height + line_height(size) * text.count("\n"))


def line_height(size: float = SMALL) -> float:
    """Height of a line of text in inches, for a size in points."""
    return _LEADING * size / 72


def rendered(figure: Figure, name: str, form: FigureFormat = PAGE) -> dict[str, bytes]:
    """Render ``<name>.png`` and ``<name>.svg`` to bytes, enlarged as their format says."""
    contents = {}
    with look():
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            content = io.BytesIO()
            # Slides have as many pixels as a paper, over twice as many inches.
            more: dict[str, Any] = (
                {"pil_kwargs": {"dpi": (_DPI / form.scale, _DPI / form.scale)}} if kind == "png" else {}
            )
            figure.savefig(content, format=kind, dpi=_DPI, metadata=metadata, **more)
            contents[f"{name}.{kind}"] = content.getvalue()
    svg = contents[f"{name}.svg"].decode()
    contents[f"{name}.svg"] = _enlarged(svg, form.scale).encode() if form.scale != 1 else svg.encode()
    return contents


def _enlarged(svg: str, scale: float) -> str:
    """Multiply the size of an SVG, but not its coordinates."""
    head, end, rest = svg.partition("viewBox")
    head = re.sub(r'\b(width|height)="([\d.]+)pt"', lambda found: f'{found[1]}="{scale * float(found[2]):g}pt"', head)
    return head + end + rest


def save(figure: Figure, folder: Path, name: str, form: FigureFormat = PAGE) -> list[Path]:
    """Write ``<name>.png`` and ``<name>.svg`` atomically."""
    contents = rendered(figure, name, form)
    for file, content in contents.items():
        write_atomic(folder / file, content)
    return [folder / file for file in contents]
