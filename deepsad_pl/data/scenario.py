"""Resolve a scenario and draw its semi-supervised training set (section 4.2).

Pure numpy. There are two steps, so that wrong settings are reported before any data are read:
:func:`resolve_scenario` needs only the class names, :func:`draw_training_set` needs the labels as well.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import floor

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.counting import classes_named, counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.class_names import resolve_class

IntArray = npt.NDArray[np.int64]

# Independent random streams, so that draws from one never change the draws from another.
_KNOWN_CLASSES, _POLLUTION, _LABELED_ANOMALIES, _LABELED_NORMALS = range(4)


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
    """

    normal_classes: tuple[int, ...]
    known_classes: tuple[int, ...]
    gamma_l: float
    gamma_p: float
    gamma_n: float
    seed: int

    def unsupervised(self) -> "Scenario | None":
        """The scenario without labels that has the same rows except the labeled anomalies; None if there is none.

        It has the same normals and the same pollution. If gamma_n and gamma_p are both positive, there is none, because
        the amount of pollution then depends on gamma_l.
        """
        if self.gamma_n and self.gamma_p:
            return None
        return Scenario(self.normal_classes, (), 0.0, self.gamma_p, 0.0, self.seed)

    def as_dict(self) -> dict[str, object]:
        """The scenario as plain lists and numbers, for records."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


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
class Counts:
    """The number of training rows of each kind; ``total`` is the paper's n + m."""

    labeled_anomalies: int
    labeled_normals: int
    unlabeled_normals: int
    pollution: int

    @property
    def unlabeled(self) -> int:
        """The paper's n."""
        return self.unlabeled_normals + self.pollution

    @property
    def total(self) -> int:
        """T, the number of all training rows."""
        return self.unlabeled + self.labeled_anomalies + self.labeled_normals


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


def number_problems(*, gamma_l: float, gamma_p: float, k_l: int, gamma_n: float, seed: int) -> list[str]:
    """The errors in a scenario's numbers, without looking at its classes; arguments as in :func:`resolve_scenario`."""
    problems = [
        f"scenario.{name} is {gamma}, but it is a ratio; it must be in [0, 1)"
        for name, gamma in (("gamma_l", gamma_l), ("gamma_p", gamma_p), ("gamma_n", gamma_n))
        if not 0 <= gamma < 1
    ]
    if not problems and gamma_l + gamma_n >= 1:
        problems.append(
            f"scenario.gamma_l + scenario.gamma_n is {gamma_l + gamma_n:g}, so nothing would be unlabeled; "
            "they must add up to less than 1"
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
) -> Scenario:
    """Check the settings of a scenario as far as the class names allow, and resolve its classes to indices.

    Args:
        normal_class: index or name of the normal class, or a list of them.
        anomaly_class: index or name of one known anomaly class (the other k_l - 1 are drawn), or None to draw all k_l,
            or a list of all known classes (k_l must then be 1 or the length of the list). It is ignored if gamma_l is
            0; if k_l is 0, only a list is used.
        gamma_l: ratio of labeled anomalies to all training rows.
        gamma_p: ratio of pollution to unlabeled training rows.
        k_l: number of anomaly classes among the labeled anomalies.
        gamma_n: ratio of labeled normals to all training rows.
        seed: determines every draw, in [0, 2^32).
        classes: the names of all classes.
        in_training: the names of the classes that have training rows; None if all have. The other classes are novel:
            they can be neither normal nor known.

    Raises:
        DeepSADError: with every problem found.
    """
    problems = number_problems(gamma_l=gamma_l, gamma_p=gamma_p, k_l=k_l, gamma_n=gamma_n, seed=seed)
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
    if gamma_l != 0 and (k_l > 0 or several):
        available = [i for i in trained if i not in normal]
        if normal and anomalous and not available:
            problems.append(
                f"scenario.gamma_l is {gamma_l}, but the training data have no anomaly class, so nothing can be "
                "labeled; use scenario.gamma_l=0"
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
    return Scenario(tuple(normal), known, float(gamma_l) if known else 0.0, float(gamma_p), float(gamma_n), seed)


def count_rows(normals: int, gamma_l: float, gamma_p: float, gamma_n: float) -> Counts:
    """Compute the number of training rows of each kind if all training normals are used.

    The total T follows from T (1 - gamma_l - gamma_p (1 - gamma_l - gamma_n)) = normals. Of these rows, gamma_l T are
    labeled anomalies, gamma_n T labeled normals and gamma_p (1 - gamma_l - gamma_n) T pollution, each rounded down. The
    arithmetic is exact (rational), so that .05 of 6000 is 300 and not 299.

    Args:
        normals: number of training rows of the normal classes.
        gamma_l: ratio of labeled anomalies to all training rows.
        gamma_p: ratio of pollution to unlabeled training rows.
        gamma_n: ratio of labeled normals to all training rows.
    """
    l, p, n = (Fraction(repr(float(gamma))) for gamma in (gamma_l, gamma_p, gamma_n))  # noqa: E741
    unlabeled_share = 1 - l - n
    total = Fraction(normals) / (1 - l - p * unlabeled_share)
    labeled_normals = floor(n * total)
    return Counts(
        labeled_anomalies=floor(l * total),
        labeled_normals=labeled_normals,
        unlabeled_normals=normals - labeled_normals,
        pollution=floor(p * unlabeled_share * total),
    )


def draw_training_set(labels: npt.ArrayLike, scenario: Scenario, classes: Sequence[str] = ()) -> TrainingSet:
    """Draw the training set: all normals, then the pollution, then labeled anomalies from the remaining rows.

    The pollution comes from all anomaly classes. Its order depends only on the seed and the normal classes, so a higher
    gamma_p adds rows to those of a lower one. Labeled anomalies and pollution never overlap.

    Args:
        labels: class index of every row of the source's training data, shape (N,).
        scenario: as :func:`resolve_scenario` returns it.
        classes: class names, for error messages.

    Raises:
        DeepSADError: with every problem found: no normal rows, or fewer anomalies than the scenario needs.
    """
    labels = np.asarray(labels, dtype=np.int64)
    normal = np.isin(labels, scenario.normal_classes)
    normals, anomalies = np.flatnonzero(normal), np.flatnonzero(~normal)
    counts = count_rows(len(normals), scenario.gamma_l, scenario.gamma_p, scenario.gamma_n)

    def named(indices: Sequence[int]) -> str:
        return classes_named([str(classes[i]) if i < len(classes) else str(i) for i in indices])

    problems: list[str] = []
    if len(normals) == 0:
        problems.append(f"the training data hold no row of the normal {named(scenario.normal_classes)}")
    pool = _generator(scenario.seed, _POLLUTION, scenario.normal_classes).permutation(anomalies)
    if counts.pollution > len(pool):
        problems.append(
            f"scenario.gamma_p={scenario.gamma_p} asks for {counted(counts.pollution, 'row')} of pollution, but the "
            f"training data hold only {counted(len(pool), 'anomaly', 'anomalies')}; lower it"
        )
    pollution, left = np.sort(pool[: counts.pollution]), np.sort(pool[counts.pollution :])
    candidates = left[np.isin(labels[left], scenario.known_classes)]
    if counts.labeled_anomalies > len(candidates):
        problems.append(
            f"scenario.gamma_l={scenario.gamma_l} asks for "
            f"{counted(counts.labeled_anomalies, 'labeled anomaly', 'labeled anomalies')} of "
            f"{named(scenario.known_classes)}, but the training data hold {len(candidates)} apart from the "
            "pollution; lower it or raise scenario.k_l"
        )
    if problems:
        raise DeepSADError(*problems)

    rng = _generator(scenario.seed, _LABELED_ANOMALIES, scenario.normal_classes)
    labeled_anomalies = rng.permutation(candidates)[: counts.labeled_anomalies]
    rng = _generator(scenario.seed, _LABELED_NORMALS, scenario.normal_classes)
    labeled_normals = rng.permutation(normals)[: counts.labeled_normals]

    index = np.sort(np.concatenate([normals, pollution, labeled_anomalies]))
    semi_y = np.zeros(len(index), dtype=np.int64)
    semi_y[np.isin(index, labeled_normals)] = 1
    semi_y[np.isin(index, labeled_anomalies)] = -1
    return TrainingSet(index, semi_y, (~normal[index]).astype(np.int64), counts)


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
