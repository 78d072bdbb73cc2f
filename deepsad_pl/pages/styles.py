"""How lines and points are drawn: a color, a line style and a shape, so that they can be told apart in grey, too."""

from dataclasses import dataclass
from typing import Literal

Color = Literal["black", "blue", "green", "grey", "orange", "pink", "red", "sky", "yellow"]
Dash = Literal["solid", "dashed", "dotted", "dashdot"]
Shape = Literal["circle", "square", "diamond", "triangle"]


@dataclass(frozen=True)
class Style:
    """How a line and its points are drawn; the style sheet knows the colors of the light and the dark scheme."""

    color: Color
    line: Dash
    shape: Shape


# Kinds of samples.
NORMAL = Style("blue", "solid", "square")
KNOWN = Style("red", "dashed", "circle")
NOVEL = Style("green", "dotted", "diamond")
ALL = Style("black", "solid", "circle")
UNKNOWN = Style("grey", "dashdot", "triangle")
