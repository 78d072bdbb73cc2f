"""Where the figures of a report are shown: in a paper or on slides, and how wide."""

from dataclasses import dataclass

from deepsad_pl.common.errors import DeepSADError

STYLES, WIDTHS = ("paper", "slides"), ("page", "column")
_INCHES = {
    ("paper", "page"): 6.75,
    ("paper", "column"): 3.25,
    ("slides", "page"): 12.0,
    ("slides", "column"): 6.0,
}


@dataclass(frozen=True)
class FigureFormat:
    """The size of a figure and of its text.

    Attributes:
        style: ``paper``, with text of 7 to 9 points; or ``slides``, with everything twice as large.
        width: ``page``: 6.75 inches in a paper, 12 on slides; or ``column``: 3.25 and 6 inches. Panels that are side by
            side on a page are stacked in a column.

    Raises:
        DeepSADError: if there is no such style or width.
    """

    style: str = "paper"
    width: str = "page"

    def __post_init__(self) -> None:
        problems = [
            f"figure.{name} is {value!r}; choose {' or '.join(known)}"
            for name, value, known in (("style", self.style, STYLES), ("width", self.width, WIDTHS))
            if value not in known
        ]
        if problems:
            raise DeepSADError(*problems)

    @property
    def scale(self) -> float:
        """The factor by which a figure is enlarged when it is written."""
        return 2.0 if self.style == "slides" else 1.0

    @property
    def inches(self) -> float:
        """The width in which a figure is drawn, before it is enlarged."""
        return _INCHES[self.style, self.width] / self.scale

    @property
    def is_column(self) -> bool:
        """Whether panels are stacked."""
        return self.width == "column"


PAGE = FigureFormat()
