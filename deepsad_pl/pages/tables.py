"""Tables of a page, which its reader can sort and filter."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what is shown.
        value: what the column is sorted by; None: the text.
        href: where the cell links to; None: nowhere.
        group: if ``href`` is the anchor of another table, the group of its rows that the link shows.
        is_code: whether the text is to be typed, such as a command.
    """

    text: str
    value: float | None = None
    href: str | None = None
    group: str | None = None
    is_code: bool = field(default=False, repr=False)


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: caption, unique on its page.
        columns: names of the columns.
        rows: the cells, one per column each.
        numbers: positions of the columns of numbers, which are aligned to the right.
        has_filter: whether a field above it filters the rows.
        anchor: ID for links to it; empty: none.
        groups: the group of each row, for cells that link to it; empty: there are no groups.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: frozenset[int] = frozenset()
    has_filter: bool = False
    anchor: str = ""
    groups: Sequence[str] = ()


def number_cell(value: float | None, form: str = ".4f") -> Cell:
    """A cell of a number; blank for None.

    >>> number_cell(0.5), number_cell(None).text
    (Cell(text='0.5000', value=0.5, href=None, group=None), '')
    """
    return Cell("") if value is None else Cell(format(value, form), float(value))
