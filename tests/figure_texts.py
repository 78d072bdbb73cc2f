"""What a figure really draws: its texts and stars, as boxes in pixels."""

from collections.abc import Sequence
from unittest import mock

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from deepsad_pl.report.style import STAR, look

# Boxes include a little air around the ink, and hinting moves a text by a pixel.
_AIR = 1.5


def drawn_texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Draw a figure; return each text that it shows with its box."""
    seen: dict[int, Text] = {}
    draw = Text.draw

    def recorded(self: Text, *args: object, **more: object) -> None:
        seen[id(self)] = self
        draw(self, *args, **more)

    with look(), mock.patch.object(Text, "draw", recorded):
        figure.canvas.draw()
        texts = [text for text in seen.values() if text.get_text().strip() and text.get_visible()]
        return [(text.get_text(), Text.get_window_extent(text)) for text in texts]


def faults(figure: Figure) -> list[str]:
    """What is wrong with a figure: texts cut off by its edge or over each other, and stars outside their axes."""
    texts = drawn_texts(figure)
    width, height = figure.bbox.width, figure.bbox.height
    found = [
        f"{text!r} is cut off at {box.extents.round(1)}, the figure has {width:.0f} x {height:.0f}"
        for text, box in texts
        if box.x0 < -_AIR or box.y0 < -_AIR or box.x1 > width + _AIR or box.y1 > height + _AIR
    ]
    for number, (text, box) in enumerate(texts):
        found += [f"{text!r} is over {other!r}" for other, above in texts[number + 1 :] if _overlap(box, above)]
    return found + [told for place in figure.axes for told in _stars_outside(place)]


def stars_of(figure: Figure) -> int:
    """Number of stars in the panels of a figure."""
    return sum(_is_star(line) for place in figure.axes for line in place.lines)


def _overlap(one: Bbox, other: Bbox) -> bool:
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    along = min(one.y1, other.y1) - max(one.y0, other.y0)
    return across > _AIR and along > _AIR


def _is_star(line: object) -> bool:
    return getattr(line, "get_marker", lambda: None)() == STAR["marker"]


def _stars_outside(place: Axes) -> Sequence[str]:
    frame = place.get_window_extent()
    told = []
    for line in filter(_is_star, place.lines):
        ((x, y),) = line.get_transform().transform(line.get_xydata())
        radius = line.get_markersize() / 2 * place.figure.dpi / 72
        if not (
            frame.x0 <= x - radius and x + radius <= frame.x1 and frame.y0 <= y - radius and y + radius <= frame.y1
        ):
            told.append(f"a star at {x:.0f}, {y:.0f} is outside of {frame.extents.round()}")
    return told
