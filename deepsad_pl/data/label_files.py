"""``dataset.labels``: labels that were filled in later, in files such as those of ``score.py query=20``."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.named_files import files_named
from deepsad_pl.common.suggestions import suggested
from deepsad_pl.data.class_names import composed
from deepsad_pl.data.marks import as_text

IntArray = npt.NDArray[np.int64]

# Default names of the columns with the labels and with the positions of the rows.
LABEL, ROW = "label", "row"
# The largest number of names that a message shows.
_SHOWN = 5


@dataclass(frozen=True)
class Answers:
    """Labels that were filled in.

    Attributes:
        rows: positions of the samples, ascending, shape (n,).
        marks: the label of each sample as it is spelled; never empty.
    """

    rows: IntArray
    marks: tuple[str, ...]


def read_answers(
    value: Any,
    names: Sequence[str],
    *,
    by: Sequence[str],
    label: str,
    allowed: Iterable[str] | None,
    what: str,
    name_of: Callable[[str], str] = lambda cell: cell,
    mark_of: Callable[[str], str] = lambda cell: cell,
) -> Answers:
    """Read files of labels and find the samples that they name.

    A sample may occur several times, but with only one label; an empty cell is not a label.

    Args:
        value: a file, a glob or a list of them, in a format of :func:`~deepsad_pl.data.table_files.read_table`.
        names: name of each sample, shape (N,).
        by: possible columns with the names of the samples; the first one that a file has is used.
        label: column with the labels.
        allowed: spellings that a label may have; None: any.
        what: what a sample is called in messages, such as ``row``.
        name_of: turns a cell of a file into the name of a sample.
        mark_of: turns a cell of a file into a label.

    Raises:
        DeepSADError: with every problem found: a file that cannot be read or lacks a column, a name that
            belongs to no sample or to several, two labels of one sample, a label that is not allowed.
    """
    problems: list[str] = []
    found: dict[str, dict[str, Path]] = {}
    for path in files_named(value):
        try:
            for name, mark in _cells(path, by, label):
                found.setdefault(name_of(name), {}).setdefault(mark_of(mark), path)
        except DeepSADError as error:
            problems += error.problems
    answered = {name: {mark: path for mark, path in marks.items() if mark} for name, marks in found.items()}
    problems += [*_name_problems(found, names, what), *_label_problems(answered, allowed)]
    if problems:
        raise DeepSADError(*problems)
    chosen = {name: next(iter(marks)) for name, marks in answered.items() if marks}
    rows = [row for row, name in enumerate(names) if name in chosen]
    return Answers(np.array(rows, np.int64), tuple(chosen[names[row]] for row in rows))


def spellings(named: Iterable[object], marks: Iterable[str]) -> list[str]:
    """The spellings of all labels: those that settings name, and then others that occur.

    Args:
        named: the values of ``dataset.normal`` and ``dataset.anomaly``.
        marks: labels that occur.
    """
    others = {composed(mark.strip()) for mark in marks if mark.strip()}
    return [*dict.fromkeys([*(as_text(name, others) for name in named), *sorted(others)])]


def _cells(path: Path, by: Sequence[str], label: str) -> Iterator[tuple[str, str]]:
    """The name and the label of each row of a file."""
    # Imported here, since checks of other settings import this module and pandas is slow to import.
    from deepsad_pl.data.table_files import column_names, read_table

    if not path.is_file():
        raise DeepSADError(f"dataset.labels is {path}, which is not a file; give one that score.py query=... wrote")
    columns = column_names(path)
    column = next((name for name in by if name in columns), None)
    problems = []
    there = f"its columns are {', '.join(columns[:20])}"
    if column is None:
        problems.append(f"dataset.labels: {path} has no column {' or '.join(map(repr, by))} with the names; {there}")
    if label not in columns:
        problems.append(f"dataset.labels: {path} has no column {label!r} with the labels; {there}")
    if column is None or problems:
        raise DeepSADError(*problems)
    frame = read_table([path], columns=[column, label], text=[column, label])
    names, marks = (frame[one].fillna("").astype(str).str.strip().map(composed) for one in (column, label))
    yield from zip(names, marks, strict=True)


def _name_problems(found: Iterable[str], names: Sequence[str], what: str) -> Iterator[str]:
    counts = Counter(names)
    unknown = [name for name in found if not counts[name]]
    if unknown:
        yield (
            f"dataset.labels names {_listed(unknown)}, which no training {what} has; give a file that score.py "
            "query=... wrote for these data"
        )
    if twice := [name for name in found if counts[name] > 1]:
        yield (
            f"dataset.labels names {_listed(twice)}, which several {what}s have, so it is not clear which one is "
            "meant; give each its own name"
        )


def _label_problems(answered: Mapping[str, Mapping[str, Path]], allowed: Iterable[str] | None) -> Iterator[str]:
    for name, marks in answered.items():
        if len(marks) > 1:
            told = " and ".join(f"{mark!r} in {path.name}" for mark, path in marks.items())
            yield f"dataset.labels has different labels for {name!r}, {told}; correct one of them"
    if allowed is None:
        return
    known = [*allowed]
    for mark, count in Counter(mark for marks in answered.values() for mark in marks).items():
        if mark not in known:
            way_out = suggested(mark, known) or f"write {' or '.join(map(repr, known[:_SHOWN]))}"
            yield (
                f"dataset.labels has the label {mark!r} ({count}), whose meaning is not known; leave the cell empty if "
                f"you cannot tell; {way_out}"
            )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(map(repr, names[:_SHOWN]))}{more}"
