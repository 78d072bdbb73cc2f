"""Resolve a scenario and draw its semi-supervised training set (section 4.2).

Pure numpy. There are two steps, so that wrong settings are reported before any data are read:
:func:`resolve_scenario` needs only the class names, :func:`draw_training_set` needs the labels as well.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.counting import classes_named, counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.class_names import resolve_class
from deepsad_pl.data.exposure import Exposure
from deepsad_pl.data.training_counts import Counts, count_rows

IntArray = npt.NDArray[np.int64]

# Independent random streams, so that draws from one never change the draws from another.
_KNOWN_CLASSES, _POLLUTION, _LABELED_ANOMALIES, _LABELED_NORMALS = range(4)

# What the unlabeled training rows are, apart from pollution: normal ones, or with them all anomalies without a label.
NORMAL, ALL = "normal", "all"
# A larger number of labels is a slip of the keyboard.
MOST_LABELS = 10**6


class TooFewAnomaliesError(DeepSADError):
    """The training data hold fewer anomalies of the known classes than are to be labeled; nothing else is wrong."""


@dataclass(frozen=True)
class Scenario:
    """A scenario with its classes resolved to indices.

    Attributes:
        normal_classes: indices of the classes that are normal; all others are anomalies.
        known_classes: indices of the k_l classes from which labeled anomalies are drawn; empty if there are none.
        gamma_l: ratio of labeled anomalies to all training rows, in [0, 1).
        gamma_p: ratio of pollution to unlabeled training rows, in [0, 1).
        gamma_n: ratio of labeled normals to all training rows, in [0, 1).
        seed: determines every draw.
        label_count: number of labeled anomalies (``scenario.labels``); gamma_l is then 0. None: by gamma_l.
        unlabeled: ``normal``, or ``all`` if all anomalies that are not labeled stay in the training data; gamma_p is
            then 0.
        gamma_e: share of the labeled anomalies that are in truth normal, in [0, 1).
        gamma_en: share of the labeled normals that are in truth anomalies, in [0, 1).
        exposure: a second data set whose training images are known anomalies; None: there is none.
    """

    normal_classes: tuple[int, ...]
    known_classes: tuple[int, ...]
    gamma_l: float
    gamma_p: float
    gamma_n: float
    seed: int
    label_count: int | None = field(default=None, kw_only=True)
    unlabeled: str = field(default=NORMAL, kw_only=True)
    gamma_e: float = field(default=0.0, kw_only=True)
    gamma_en: float = field(default=0.0, kw_only=True)
    exposure: Exposure | None = field(default=None, kw_only=True)

    @property
    def has_known_anomalies(self) -> bool:
        """Whether anomalies are known to a method that sees labels: of known classes, or of another data set."""
        return bool(self.known_classes) or self.exposure is not None

    def unsupervised(self) -> "Scenario | None":
        """The scenario of a method that does not see labels; None if its rows depend on what is labeled.

        It has the same normals and the same pollution, and no labeled anomalies. With ``unlabeled=all`` it has all
        rows. A normal row that is wrongly labeled as an anomaly is one of the normals. If gamma_n is positive, there is
        none if gamma_p or gamma_en is positive too, because the anomalies among its rows then depend on gamma_l.
        """
        if self.unlabeled == ALL:
            return Scenario(self.normal_classes, (), 0.0, 0.0, 0.0, self.seed, unlabeled=ALL)
        if self.gamma_n and (self.gamma_p or self.gamma_en):
            return None
        return Scenario(self.normal_classes, (), 0.0, self.gamma_p, 0.0, self.seed)

    def as_dict(self) -> dict[str, object]:
        """The scenario as plain lists and numbers, for identities; what was added later only if it is set."""
        later = {"unlabeled": self.unlabeled, "gamma_e": self.gamma_e, "gamma_en": self.gamma_en}
        by_ratio = self.label_count is None
        return {
            "normal_classes": list(self.normal_classes),
            "known_classes": list(self.known_classes),
            **({"gamma_l": self.gamma_l} if by_ratio else {"labels": self.label_count}),
            "gamma_p": self.gamma_p,
            "gamma_n": self.gamma_n,
            "seed": self.seed,
            **{name: value for name, value in later.items() if value not in (NORMAL, 0.0)},
            **({} if self.exposure is None else {"exposure": self.exposure.as_dict()}),
        }


@dataclass(frozen=True)
class GivenLabels(Scenario):
    """The labels that come with the data (``scenario=given``): nothing is drawn.

    Known normal samples have class 0 and known anomalies class 1; there are no ratios.
    """

    def unsupervised(self) -> None:
        """None: apart from labeled anomalies, the training samples are the same with and without labels."""

    def as_dict(self) -> dict[str, object]:
        """The seed, which still determines splits and initial weights."""
        return {"given": True, "seed": self.seed}


# The classes that given labels stand for.
GIVEN_CLASSES = ("normal", "anomaly")


def is_given(scenario: Scenario) -> bool:
    """Whether the labels come with the data."""
    return isinstance(scenario, GivenLabels)


def given_labels(seed: int) -> GivenLabels:
    """The scenario of data that come with their labels.

    Args:
        seed: seed of the run, in [0, 2^32).

    Raises:
        DeepSADError: if the seed is out of range.
    """
    if problems := number_problems(gamma_l=0, gamma_p=0, k_l=0, gamma_n=0, seed=seed):
        raise DeepSADError(*problems)
    return GivenLabels((0,), (1,), 0.0, 0.0, 0.0, seed)


@dataclass(frozen=True)
class TrainingSet:
    """The rows of a scenario's training set.

    Attributes:
        index: rows of the source's training data, ascending, shape (T,).
        semi_y: their semi-labels: 0 unlabeled, +1 known normal, -1 known anomaly, shape (T,).
        y: their ground truth: 0 normal, 1 anomaly, shape (T,). Never read in training.
        counts: the number of rows of each kind.
    """

    index: IntArray
    semi_y: IntArray
    y: IntArray
    counts: Counts


def labels_anomalies(settings: Mapping[str, Any]) -> bool:
    """Whether a drawn scenario's settings give a method any known anomalies."""
    if settings.get("exposure") is not None:
        return True
    labels = settings.get("labels")
    return bool((settings["gamma_l"] if labels is None else labels) != 0 and settings["k_l"] != 0)


def number_problems(
    *,
    gamma_l: float,
    gamma_p: float,
    k_l: int,
    gamma_n: float,
    seed: int,
    labels: int | None = None,
    unlabeled: str = NORMAL,
    gamma_e: float = 0.0,
    gamma_en: float = 0.0,
) -> list[str]:
    """The errors in a scenario's numbers, without looking at its classes; arguments as in :func:`resolve_scenario`."""
    ratios = {"gamma_l": gamma_l, "gamma_p": gamma_p, "gamma_n": gamma_n, "gamma_e": gamma_e, "gamma_en": gamma_en}
    problems = [
        f"scenario.{name} is {gamma}, but it is a ratio; it must be in [0, 1)"
        for name, gamma in ratios.items()
        if not 0 <= gamma < 1
    ]
    if not problems and labels is None and gamma_l + gamma_n >= 1:
        problems.append(
            f"scenario.gamma_l + scenario.gamma_n is {gamma_l + gamma_n:g}, so nothing would be unlabeled; "
            "they must add up to less than 1"
        )
    if labels is not None and not 0 <= labels <= MOST_LABELS:
        problems.append(
            f"scenario.labels is {labels}; it must be a number of labeled anomalies from 0 to {MOST_LABELS:,}, or null "
            "to use gamma_l"
        )
    if unlabeled not in (NORMAL, ALL):
        problems.append(f"scenario.unlabeled is {unlabeled!r}; choose {NORMAL} or {ALL}")
    elif unlabeled == ALL and gamma_p != 0:
        problems.append(
            f"scenario.gamma_p is {gamma_p}, but scenario.unlabeled=all keeps every anomaly that is not labeled; use "
            "scenario.gamma_p=0 or scenario.unlabeled=normal"
        )
    if k_l < 0:
        problems.append(f"scenario.k_l is {k_l}; it must be a number of classes >= 0")
    if not 0 <= seed < 2**32:
        problems.append(f"seed is {seed}; it must be an integer in [0, 2^32)")
    return problems


def resolve_scenario(
    *,
    normal_class: object,
    anomaly_class: object,
    gamma_l: float,
    gamma_p: float,
    k_l: int,
    gamma_n: float,
    seed: int,
    classes: Sequence[str],
    in_training: Collection[str] | None = None,
    labels: int | None = None,
    unlabeled: str = NORMAL,
    gamma_e: float = 0.0,
    gamma_en: float = 0.0,
) -> Scenario:
    """Check the settings of a scenario as far as the class names allow, and resolve its classes to indices.

    Args:
        normal_class: index or name of the normal class, or a list of them.
        anomaly_class: index or name of one known anomaly class (the other k_l - 1 are drawn), or None to draw all k_l,
            or a list of all known classes (k_l must then be 1 or the length of the list). It is ignored if no anomaly
            is to be labeled; if k_l is 0, only a list is used.
        gamma_l: ratio of labeled anomalies to all training rows; without effect if ``labels`` is set.
        gamma_p: ratio of pollution to unlabeled training rows.
        k_l: number of anomaly classes among the labeled anomalies.
        gamma_n: ratio of labeled normals to all training rows.
        seed: determines every draw, in [0, 2^32).
        classes: the names of all classes.
        in_training: the names of the classes that have training rows; None if all have. The other classes are novel:
            they can be neither normal nor known.
        labels: number of labeled anomalies, >= 0; None: by gamma_l.
        unlabeled: ``normal``; or ``all`` to keep all anomalies that are not labeled, of every class, as unlabeled rows
            (gamma_p must then be 0).
        gamma_e: share of the labeled anomalies that are in truth normal; without effect if none is labeled.
        gamma_en: share of the labeled normals that are in truth anomalies; without effect if gamma_n is 0.

    Raises:
        DeepSADError: with every problem found.
    """
    problems = number_problems(
        gamma_l=gamma_l,
        gamma_p=gamma_p,
        k_l=k_l,
        gamma_n=gamma_n,
        seed=seed,
        labels=labels,
        unlabeled=unlabeled,
        gamma_e=gamma_e,
        gamma_en=gamma_en,
    )
    trained = [i for i, name in enumerate(classes) if in_training is None or name in in_training]

    requested = list(normal_class) if isinstance(normal_class, list | tuple) else [normal_class]
    if not requested:
        problems.append("scenario.normal_class is an empty list; name at least one class")
    normal = sorted(set(_resolve("normal_class", requested, classes, trained, problems)))
    anomalous = [i for i in range(len(classes)) if i not in normal]
    if normal and not anomalous:
        problems.append("scenario.normal_class names every class, so there is no anomaly; leave at least one class out")

    known: tuple[int, ...] = ()
    several = isinstance(anomaly_class, list | tuple)
    key, amount = ("gamma_l", gamma_l) if labels is None else ("labels", labels)
    if amount != 0 and (k_l > 0 or several):
        available = [i for i in trained if i not in normal]
        if normal and anomalous and not available:
            problems.append(
                f"scenario.{key} is {amount}, but the training data have no anomaly class, so nothing can be "
                f"labeled; use scenario.{key}=0"
            )
        elif isinstance(anomaly_class, list | tuple):
            known = tuple(sorted(_resolve("anomaly_class", anomaly_class, classes, trained, problems)))
            problems += _list_problems(known, len(anomaly_class), k_l, classes)
        else:
            requested = [] if anomaly_class is None else [anomaly_class]
            given = _resolve("anomaly_class", requested, classes, trained, problems)
            if normal and k_l > len(available):
                there = counted(len(available), "anomaly class", "anomaly classes")
                problems.append(f"scenario.k_l is {k_l}, but the training data have {there}; use at most that number")
            if not problems:
                drawn = _generator(seed, _KNOWN_CLASSES, normal).permutation(available).tolist()
                given += [c for c in drawn if c not in given][: k_l - len(given)]
            known = tuple(sorted(given))
        problems += [
            f"scenario.anomaly_class names {classes[i]!r}, which is also a normal class; choose another class or null"
            for i in dict.fromkeys(known)
            if i in normal
        ]
    if problems:
        raise DeepSADError(*problems)
    return Scenario(
        normal_classes=tuple(normal),
        known_classes=known,
        gamma_l=float(gamma_l) if known and labels is None else 0.0,
        gamma_p=float(gamma_p),
        gamma_n=float(gamma_n),
        seed=seed,
        label_count=labels if known else None,
        unlabeled=unlabeled,
        gamma_e=float(gamma_e) if known else 0.0,
        gamma_en=float(gamma_en) if gamma_n else 0.0,
    )


def draw_training_set(labels: npt.ArrayLike, scenario: Scenario, classes: Sequence[str] = ()) -> TrainingSet:
    """Draw the training set: all normals, then the pollution, then labeled anomalies from the remaining rows.

    The pollution comes from all anomaly classes. Its order depends only on the seed and the normal classes, so a higher
    gamma_p adds rows to those of a lower one. Labeled anomalies and pollution never overlap. With
    ``unlabeled=all``, the pollution is all anomalies that are not labeled.

    Rows with a wrong label come from the other end of the same orders: anomalies labeled as normal from the end of the
    order of pollution, normals labeled as anomalies from the end of the order of labeled normals. So they overlap with
    neither, a higher gamma_e or gamma_en adds rows to those of a lower one, and without them every draw is the same.

    Args:
        labels: class index of every row of the source's training data, shape (N,).
        scenario: as :func:`resolve_scenario` returns it.
        classes: class names, for error messages.

    Raises:
        TooFewAnomaliesError: if the only problem is that there are fewer anomalies of the known classes than are to be
            labeled.
        DeepSADError: with every problem found: no normal rows, or fewer rows of a kind than the scenario needs.
    """
    labels = np.asarray(labels, dtype=np.int64)
    normal = np.isin(labels, scenario.normal_classes)
    normals, anomalies = np.flatnonzero(normal), np.flatnonzero(~normal)
    keeps_all = scenario.unlabeled == ALL
    counts = count_rows(
        len(normals),
        scenario.gamma_l,
        scenario.gamma_p,
        scenario.gamma_n,
        labels=scenario.label_count,
        gamma_e=scenario.gamma_e,
        gamma_en=scenario.gamma_en,
        anomalies=len(anomalies) if keeps_all else None,
    )

    def named(indices: Sequence[int]) -> str:
        return classes_named([str(classes[i]) if i < len(classes) else str(i) for i in indices])

    problems = list(_shortages(scenario, counts, len(normals), len(anomalies), named(scenario.normal_classes)))
    pool = _generator(scenario.seed, _POLLUTION, scenario.normal_classes).permutation(anomalies)
    drawn = 0 if keeps_all else counts.pollution
    pollution, left = np.sort(pool[:drawn]), np.sort(pool[drawn:])
    wrong_normals = pool[max(0, len(pool) - counts.wrong_normals) :]
    rng = _generator(scenario.seed, _LABELED_ANOMALIES, scenario.normal_classes)
    order = rng.permutation(left[np.isin(labels[left], scenario.known_classes)])
    order = order[~np.isin(order, wrong_normals)]
    needed = counts.labeled_anomalies - counts.wrong_anomalies
    if too_few := needed > len(order):
        by_ratio = scenario.label_count is None
        asked = f"gamma_l={scenario.gamma_l}" if by_ratio else f"labels={scenario.label_count}"
        right = "rightly " if counts.wrong_anomalies else ""
        others = [] if keeps_all else ["the pollution"]
        others += ["those labeled as normal"] if counts.wrong_normals else []
        apart = f" apart from {' and '.join(others)}" if others else ""
        unknown = set(np.unique(labels).tolist()) - {*scenario.normal_classes, *scenario.known_classes}
        way_out = "lower it or raise scenario.k_l" if unknown else "lower it"
        problems.append(
            f"scenario.{asked} asks for {counted(needed, f'{right}labeled anomaly', f'{right}labeled anomalies')} of "
            f"{named(scenario.known_classes)}, but the training data hold {len(order)}{apart}; {way_out}"
        )
    if problems:
        raise (TooFewAnomaliesError if too_few and len(problems) == 1 else DeepSADError)(*problems)

    right_anomalies = order[:needed]
    if keeps_all:
        pollution = np.setdiff1d(anomalies, np.concatenate([right_anomalies, wrong_normals]))
    order = _generator(scenario.seed, _LABELED_NORMALS, scenario.normal_classes).permutation(normals)
    right_normals = order[: counts.labeled_normals - counts.wrong_normals]
    wrong_anomalies = order[len(order) - counts.wrong_anomalies :]

    index = np.sort(np.concatenate([normals, pollution, right_anomalies, wrong_normals]))
    semi_y = np.zeros(len(index), dtype=np.int64)
    semi_y[np.isin(index, right_normals) | np.isin(index, wrong_normals)] = 1
    semi_y[np.isin(index, right_anomalies) | np.isin(index, wrong_anomalies)] = -1
    return TrainingSet(index, semi_y, (~normal[index]).astype(np.int64), counts)


def _shortages(scenario: Scenario, counts: Counts, normals: int, anomalies: int, normal_class: str) -> Iterator[str]:
    """Yield what the data have too few rows for, except labeled anomalies, which depend on the draw of the others.

    Args:
        scenario: the scenario.
        counts: the rows that it asks for.
        normals: number of normal rows in the training data.
        anomalies: number of anomalies in the training data.
        normal_class: the normal classes in words.
    """
    if normals == 0:
        yield f"the training data hold no row of the normal {normal_class}"
    elif counts.unlabeled_normals < 0:
        asked = counted(normals - counts.unlabeled_normals, "labeled normal row")
        yield (
            f"scenario.gamma_n={scenario.gamma_n} and scenario.gamma_e={scenario.gamma_e} ask for {asked}, but the "
            f"training data hold only {normals}; lower them"
        )
    drawn = 0 if scenario.unlabeled == ALL else counts.pollution
    if drawn > anomalies:
        yield (
            f"scenario.gamma_p={scenario.gamma_p} asks for {counted(drawn, 'row')} of pollution, but the "
            f"training data hold only {counted(anomalies, 'anomaly', 'anomalies')}; lower it"
        )
    elif drawn + counts.wrong_normals > anomalies:
        apart = " apart from the pollution" if drawn else ""
        yield (
            f"scenario.gamma_en={scenario.gamma_en} asks for {counted(counts.wrong_normals, 'anomaly', 'anomalies')} "
            f"labeled as normal, but the training data hold only {anomalies - drawn}{apart}; lower it"
        )


def given_training_set(semi_y: npt.ArrayLike) -> TrainingSet:
    """Make the training set from all samples, with their own labels.

    Its ground truth is 1 for labeled anomalies and 0 elsewhere, since the truth of unlabeled samples is not known;
    all of them count as ``unlabeled_normals``.

    Args:
        semi_y: 0 unlabeled, +1 known normal, -1 known anomaly, shape (N,).

    Raises:
        DeepSADError: if a label is none of these, or all samples are labeled anomalies.
    """
    labels = np.asarray(semi_y, dtype=np.int64)
    if not np.isin(labels, (-1, 0, 1)).all():
        wrong = labels[~np.isin(labels, (-1, 0, 1))][0]
        raise DeepSADError(f"a label is {wrong}; give 0 (unlabeled), +1 (known normal) or -1 (known anomaly)")
    anomalies, normals = int((labels == -1).sum()), int((labels == 1).sum())
    if anomalies == len(labels):
        raise DeepSADError(
            f"all {len(labels)} training samples are labeled anomalies; add unlabeled or known normal ones"
        )
    counts = Counts(anomalies, normals, len(labels) - anomalies - normals, 0)
    return TrainingSet(np.arange(len(labels)), labels, (labels == -1).astype(np.int64), counts)


def _resolve(
    key: str, requested: Sequence[object], classes: Sequence[str], trained: Sequence[int], problems: list[str]
) -> list[int]:
    """Resolve the requested classes that exist, in the given order; errors are appended to ``problems``."""
    found: list[int] = []
    for name in requested:
        try:
            index = resolve_class(name, classes)
        except DeepSADError as error:
            problems.append(f"scenario.{key}: {error}")
            continue
        found.append(index)
        if index not in trained:
            there = ", ".join(classes[i] for i in trained) or "none"
            # The default is an index, so the user may never have written the name.
            told = repr(classes[index]) if isinstance(name, str) else f"{name} ({classes[index]!r})"
            problems.append(
                f"scenario.{key} is {told}, but the training data have no row of it; choose one of the "
                f"classes that they have: {there}"
            )
    return found


def _list_problems(known: Sequence[int], length: int, k_l: int, classes: Sequence[str]) -> Iterator[str]:
    """Yield the errors in the length of a list of known classes and in repeated entries."""
    if not length:
        yield "scenario.anomaly_class is an empty list; name at least one class, or use null to draw them"
    elif k_l not in (1, length):
        known_ones = counted(length, "known class", "known classes")
        yield f"scenario.k_l is {k_l}, but scenario.anomaly_class lists {known_ones}; leave scenario.k_l out"
    for i in dict.fromkeys(known):
        if known.count(i) > 1:
            yield f"scenario.anomaly_class names {classes[i]!r} more than once; name each class once"


def _generator(seed: int, stream: int, normal_classes: Sequence[int]) -> np.random.Generator:
    return np.random.default_rng([seed, stream, *normal_classes])
