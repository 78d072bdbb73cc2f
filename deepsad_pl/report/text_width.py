"""The width of a text, and wrapping of text that would not fit."""

from functools import lru_cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

_POINTS = 72.0


@lru_cache(maxsize=4096)
def width_of(text: str, size: float) -> float:
    """Width in inches of one line of text in the figures' font, whose size is in points; mathtext is allowed."""
    if not text.strip():
        return 0.0
    path = TextPath((0, 0), text, prop=FontProperties(family="DejaVu Sans", size=size))
    return float(path.get_extents().x1) / _POINTS


def wrapped(text: str, inches: float, size: float) -> str:
    """Wrap each line of a text at spaces to a width; a word that is wider is broken.

    >>> wrapped("one two three", 0.5, 8)
    'one two\\nthree'

    Args:
        text: the text.
        inches: the width.
        size: size of the font in points.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            for piece in _pieces(word, inches, size):
                longer = f"{line} {piece}" if line else piece
                if line and width_of(longer, size) > inches:
                    lines.append(line)
                    line = piece
                else:
                    line = longer
        lines.append(line)
    return "\n".join(lines)


def _pieces(word: str, inches: float, size: float) -> list[str]:
    """Break a word that is wider than a line; mathtext is never broken."""
    pieces = []
    while width_of(word, size) > inches and "$" not in word and len(word) > 1:
        end = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or width_of(word[:n], size) <= inches)
        pieces.append(word[:end])
        word = word[end:]
    return [*pieces, word]
