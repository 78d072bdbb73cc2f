"""The samples that a page shows: those with the most surprising scores in a group, and the reasons for the scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.detector.detector import Detector
from deepsad_pl.detector.reasons import reasons_of
from deepsad_pl.pages.tables import Cell, Table, number_cell
from deepsad_pl.pages.thumbnails import heat_map, thumbnail

# The most samples of a group on a page: fewer images than rows, since explaining an image takes longer.
_IMAGES, _ROWS = 8, 12
# The most references of a heat map of a shallow method, which takes seconds with all 16. On MNIST, half of them give a
# map whose correlation with that of all of them is 0.96.
_OCCLUSIONS = 8


@dataclass(frozen=True)
class Samples:
    """Samples of one kind, from which a page shows those at one end of the scores.

    Attributes:
        title: the heading, such as ``Most anomalous normal test samples``.
        about: a sentence below it.
        x: the samples of a data set as a network takes them (rows) or uint8 pixels, shape (N, ...).
        rows: positions of the samples of this kind in ``x``, shape (n,).
        score: shape (n,).
        names: name of each sample, n texts.
        classes: class of each sample, n texts; empty where it is not known.
        highest: whether the highest scores are shown, the highest first; otherwise the lowest.
    """

    title: str
    about: str
    x: npt.NDArray[Any]
    rows: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]
    names: Sequence[str]
    classes: Sequence[str]
    highest: bool

    def chosen(self, count: int) -> npt.NDArray[np.int64]:
        """Positions of the samples that are shown."""
        finite = np.flatnonzero(np.isfinite(self.score))
        order = np.argsort(-self.score[finite] if self.highest else self.score[finite], kind="stable")
        return finite[order][:count]


@dataclass(frozen=True)
class Card:
    """An image with its heat map and a few words."""

    image: str
    heat: str | None
    name: str
    of_class: str
    score: str


@dataclass(frozen=True)
class Group:
    """A group of samples on a page: cards of images, or a table."""

    title: str
    about: str
    cards: Sequence[Card] = ()
    table: Table | None = None


def groups_of(detector: Detector, groups: Sequence[Samples]) -> list[Group]:
    """Choose the samples of each group and explain their scores.

    Args:
        detector: the trained detector; without references, nothing is explained.
        groups: the groups; those without a sample are left out.
    """
    inputs = detector.facts.inputs
    filled = [(group, chosen) for group in groups if len(chosen := group.chosen(_ROWS if inputs.are_rows else _IMAGES))]
    if not filled:
        return []
    # All groups in one call, since each call has a fixed cost.
    explained = None
    if detector.explains:
        x = np.concatenate([group.x[group.rows[chosen]] for group, chosen in filled])
        explained = detector.explained(x, most_occlusions=_OCCLUSIONS)
    found, first = [], 0
    for group, chosen in filled:
        of_group = None if explained is None else explained[first : first + len(chosen)]
        first += len(chosen)
        if inputs.are_rows:
            found.append(Group(group.title, group.about, table=_table(inputs.feature_names, group, chosen, of_group)))
        else:
            found.append(Group(group.title, group.about, _cards(inputs.scale or 1.0, group, chosen, of_group)))
    return found


def _cards(
    scale: float,
    group: Samples,
    chosen: npt.NDArray[np.int64],
    explained: npt.NDArray[np.float64] | None,
) -> list[Card]:
    return [
        Card(
            thumbnail(np.asarray(group.x[group.rows[row]], np.float64) / scale),
            None if explained is None else heat_map(explained[place]),
            group.names[row],
            group.classes[row],
            f"{group.score[row]:.4g}",
        )
        for place, row in enumerate(chosen.tolist())
    ]


def _table(
    names: Sequence[str],
    group: Samples,
    chosen: npt.NDArray[np.int64],
    explained: npt.NDArray[np.float64] | None,
) -> Table:
    has_classes = any(group.classes[row] for row in chosen)
    called = [f"column {name}" if name.isdecimal() else name for name in names]
    reasons = [] if explained is None else reasons_of(called, explained)
    filled = [texts for texts in reasons if any(texts)]
    rows = [
        [
            Cell(group.names[row], float(group.names[row]) if group.names[row].isdecimal() else None),
            *([Cell(group.classes[row])] if has_classes else []),
            number_cell(float(group.score[row]), ".4g"),
            *(Cell(texts[place]) for texts in filled),
        ]
        for place, row in enumerate(chosen.tolist())
    ]
    places = ("strongest column", "second", "third", "fourth", "fifth")
    columns = ["sample", *(["class"] if has_classes else []), "score", *places[: len(filled)]]
    return Table(group.title, columns, rows, frozenset({columns.index("score")}))
