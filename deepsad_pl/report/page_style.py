"""How methods are drawn on a page: as in the figures, in the colors of the page's style sheet."""

import itertools
from collections.abc import Mapping
from typing import cast

from deepsad_pl.pages.styles import Color, Dash, Shape, Style
from deepsad_pl.settings.about import own_columns

# The shape of a point for each of matplotlib's markers, of which there are more than shapes.
_SHAPES: dict[str, Shape] = {
    **dict.fromkeys("sP", "square"),
    **dict.fromkeys("DdxX+", "diamond"),
    **dict.fromkeys("^v<>*", "triangle"),
}
# For methods that declare no style, or one that is taken.
_FORMS: tuple[Shape, ...] = ("triangle", "square", "diamond", "circle")
_DASHES: tuple[Dash, ...] = ("dashdot", "dotted", "dashed")
_COLORS: tuple[Color, ...] = ("black", "grey", "blue", "red")
_OTHERS = [Style(color, line, shape) for shape, line, color in itertools.product(_FORMS, _DASHES, _COLORS)]


def page_style(column: str) -> Style:
    """The declared style of one of the package's columns, or a generic style for a user's own method."""
    if column not in own_columns():
        return _OTHERS[0]
    declared = own_columns()[column].style
    shape = _SHAPES.get(declared["marker"], "circle")
    return Style(cast(Color, declared["color"]), cast(Dash, declared["line"]), shape)


def page_styles(columns: Mapping[str, str]) -> dict[str, Style]:
    """The style of each method: its column's, or another one if that is taken.

    Args:
        columns: the column of each method.
    """
    found: dict[str, Style] = {}
    for method, column in columns.items():
        style = page_style(column)
        if style in found.values():
            style = next((other for other in _OTHERS if other not in found.values()), style)
        found[method] = style
    return found
