"""Translate labels that a person wrote into semi-labels: known normal, known anomaly or unlabeled."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.suggestions import suggested
from deepsad_pl.data.class_names import composed, readings

IntArray = npt.NDArray[np.int64]

# Spellings of the semi-labels themselves.
_SEMI_LABELS = {"-1": -1, "0": 0, "1": 1, "+1": 1}
_WHOLE = re.compile(r"[+-]?(0|[1-9]\d*)\.0+", re.ASCII)
# How many labels a message shows.
_SHOWN = 8


def semi_labels(
    marks: Sequence[str],
    normal: Sequence[object],
    anomaly: Sequence[object],
    *,
    key: str,
    others: Sequence[str] = (),
    one_kind: bool = False,
) -> IntArray:
    """Translate labels into semi-labels: 0 unlabeled, +1 known normal, -1 known anomaly, shape (N,).

    If ``normal`` or ``anomaly`` is given, every other label means unlabeled, and so does an empty one. Otherwise the
    labels must themselves be semi-labels: -1, 0, +1 or empty. -1 must occur, since a column of 0 and 1 could mean
    anything.

    Args:
        marks: the label of each sample as text; empty if there is none.
        normal: labels that mean known normal.
        anomaly: labels that mean known anomaly.
        key: the setting that names the labels' column or folder, for messages.
        others: texts of another column with the same labels; a named label may occur only there, if one occurs here.
        one_kind: whether none of the named labels has to occur, as in the first answers to questions about samples.

    Raises:
        DeepSADError: if the meaning of the labels is not clear, or a named label does not occur.
    """
    found, elsewhere = Counter(map(spelled, marks)), set(map(spelled, others))
    if not normal and not anomaly:
        if (found["-1"] or "-1" in elsewhere) and all(mark in _SEMI_LABELS for mark in found if mark):
            return np.array([_SEMI_LABELS.get(spelled(mark), 0) for mark in marks], np.int64)
        raise DeepSADError(
            f"{key} has the labels {_listed(found)}, whose meaning is not known; name those that mean normal and those "
            f"that mean anomaly, such as {_example(found)}"
        )
    named = {spelled(as_text(name, {*found, *elsewhere})) for name in (*normal, *anomaly)}
    if not one_kind and not (named & found.keys()):
        elsewhere = set()
    meaning = _meaning(found, normal, anomaly, key=key, elsewhere=None if one_kind else elsewhere)
    return np.array([meaning.get(spelled(mark), 0) for mark in marks], np.int64)


def truths(
    marks: Sequence[str],
    normal: Sequence[object],
    anomaly: Sequence[object],
    *,
    key: str,
    strict: bool,
    labels: Sequence[str] = (),
    label: str = "",
) -> IntArray:
    """Translate the truth of test samples: 0 normal, 1 anomaly, -1 not known (an empty cell), shape (N,).

    Args:
        marks: see :func:`semi_labels`.
        normal: see :func:`semi_labels`.
        anomaly: see :func:`semi_labels`.
        key: see :func:`semi_labels`.
        strict: True: a label in neither ``normal`` nor ``anomaly`` means that the truth is not known, as in a column
            that also holds the labels of the training samples. False: a label outside ``normal`` means anomaly.
        labels: the labels of the training samples, to which the same names apply.
        label: the setting that names their column, for messages; empty if there are none.

    Raises:
        DeepSADError: if the meaning of the labels is not clear.
    """
    # Loads pandas, which labels of images do not need.
    from deepsad_pl.data.table_cells import MISSING_WORDS

    names = [spelled(mark) for mark in marks]
    found, of_labels = Counter(names), set(map(spelled, labels))
    if label and not strict and not normal and not anomaly and not found["-1"] and any(names):
        raise DeepSADError(
            f"{key} has the values {_listed(found)} but no -1, so their meaning is not known; names in dataset.normal "
            f"and dataset.anomaly would hold for {label}, too, so write the truth of an anomaly as -1, of others as 1"
        )
    if strict or not normal:
        # A file of test samples may have only one kind.
        semi_y = semi_labels(marks, normal, anomaly, key=key, others=labels, one_kind=bool(of_labels - {""}))
        return np.select([semi_y == 1, semi_y == -1], [0, 1], -1).astype(np.int64)
    normals, anomalies = ({spelled(as_text(name, {*found, *of_labels})) for name in kind} for kind in (normal, anomaly))
    problems = list(_other_spellings(found, normals, key))
    if missing := sorted({*MISSING_WORDS} & (found.keys() - normals - anomalies - {""})):
        problems.append(
            f"{key} has {' and '.join(map(repr, missing))} in {counted(sum(found[word] for word in missing), 'row')}, "
            "which would mean anomaly; leave a cell empty if its truth is not known, or name the word in "
            "dataset.anomaly or dataset.normal"
        )
    if "-1" in anomalies and "0" in found and not {"-1", ""} & found.keys() and "0" not in normals | anomalies:
        problems.append(
            f"{key} has the values {_listed(found)}, but dataset.anomaly names -1, which none has, and 0 would mean "
            "anomaly; write the truth with the names in dataset.normal and dataset.anomaly"
        )
    if not problems and not normals & (found.keys() | of_labels):
        problems.append(
            f"dataset.normal names {', '.join(map(repr, sorted(normals)))}, but {key} has no such value, so every row "
            f"with a known truth would be an anomaly; name some of its values: {_listed(found)}"
        )
    if problems:
        raise DeepSADError(*problems)
    return np.array([-1 if not name else int(name not in normals) for name in names], np.int64)


def all_labeled(marks: Sequence[str], normal: Sequence[object], anomaly: Sequence[object]) -> bool:
    """Whether each sample has a label; 0 is none if no labels are named, see :func:`semi_labels`."""
    none = {""} if normal or anomaly else {"", "0"}
    return not none & set(map(spelled, marks))


def _meaning(
    found: Counter[str],
    normal: Sequence[object],
    anomaly: Sequence[object],
    *,
    key: str,
    elsewhere: Collection[str] | None,
) -> dict[str, int]:
    """What each named label means; those in neither ``found`` nor ``elsewhere`` are problems, unless that is None."""
    meaning: dict[str, int] = {}
    problems: list[str] = []
    for setting, names, semi_y in (("normal", normal, 1), ("anomaly", anomaly, -1)):
        for name in (spelled(as_text(name, {*found, *(elsewhere or ())})) for name in names):
            if meaning.get(name, semi_y) != semi_y:
                problems.append(f"dataset.normal and dataset.anomaly both name {name!r}; remove it from one of them")
            if not name.strip():
                problems.append(
                    f"dataset.{setting} has an empty label, but an empty cell means unlabeled; leave it out"
                )
            elif name not in found and elsewhere is not None and name not in elsewhere:
                way_out = suggested(name, [mark for mark in found if mark]) or "name a label that occurs"
                problems.append(
                    f"dataset.{setting} names {name!r}, but {key} has the labels {_listed(found)}; {way_out}"
                )
            meaning[name] = semi_y
    here = [name for name in meaning if name in found or elsewhere is None or name in elsewhere]
    problems += _other_spellings(found, here, key)
    if problems:
        raise DeepSADError(*dict.fromkeys(problems))
    return meaning


def _other_spellings(found: Collection[str], named: Collection[str], key: str) -> Iterator[str]:
    """Yield a sentence for each label that differs from a named one only in case."""
    folded = {name.casefold(): name for name in named}
    for mark in found:
        if mark in named or (name := folded.get(mark.casefold())) is None:
            continue
        if name in found:
            yield (
                f"{key} has the labels {name!r} and {mark!r}, of which only the first is named, so the other would "
                "mean something else; name both, or correct the table"
            )
        else:
            yield f"{name!r} is named, but {key} has {mark!r}; did you mean {mark}?"


def spelled(mark: str) -> str:
    """A label without the white space around it, in composed Unicode; a whole number such as 1.0 is 1.

    pandas writes a column of whole numbers with decimals if one of its cells is empty.

    >>> spelled(" scrap "), spelled("1.0"), spelled("1.50"), spelled("007.0")
    ('scrap', '1', '1.50', '007.0')
    """
    mark = composed(mark.strip())
    return mark.partition(".")[0] if _WHOLE.fullmatch(mark) else mark


def as_text(name: object, marks: Iterable[str]) -> str:
    """The label that a setting names, which the command line or YAML may have turned into a number or a bool."""
    if isinstance(name, str):
        return composed(name)
    alike = [mark for mark in marks if mark and repr(name) in readings(mark)]
    return alike[0] if len(alike) == 1 else str(name)


def _listed(found: Counter[str]) -> str:
    """The labels with their counts, the rarest first, since most rows are unlabeled."""
    rare = sorted(found.items(), key=lambda item: (item[1], item[0]))
    shown = [f"{mark!r} ({count})" if mark else f"no label ({count})" for mark, count in rare[:_SHOWN]]
    return ", ".join([*shown, *([f"and {len(rare) - _SHOWN} more"] if len(rare) > _SHOWN else [])])


def _example(found: Iterable[str]) -> str:
    names = sorted(mark for mark in found if mark) or ["scrap"]
    return f"dataset.anomaly=[{names[-1]}]"
