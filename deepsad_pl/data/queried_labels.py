"""Active learning in rounds (``scenario=queried``): the pool, the first labels and the oracle. Pure numpy."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.scenario import MOST_LABELS, Scenario, TrainingSet, draw_training_set, resolve_scenario
from deepsad_pl.data.training_counts import counts_of_rows

IntArray = npt.NDArray[np.int64]

# Random streams of a run's seed, independent of all other draws.
_FIRST_LABELS, _RANDOM_QUERIES = 130, 131
# Each round is an experiment, planned and run within that of the next one, so the depth of calls grows with them.
MOST_ROUNDS = 200


@dataclass(frozen=True)
class QueriedLabels(Scenario):
    """A pool of unlabeled training rows, of which a few are labeled at the start and some more in each round.

    Attributes:
        start: number of rows that are drawn from the pool and labeled before the first training, >= 0.
        rounds: number of rounds of questions after the first training, >= 0.
        by: strategy by which the rows to ask about are chosen.
        count: number of rows asked about in a round, >= 1.
    """

    start: int
    rounds: int
    by: str
    count: int

    @property
    def labels(self) -> int:
        """The number of labeled rows after the last round."""
        return self.start + self.rounds * self.count

    def pool(self) -> Scenario:
        """The scenario whose training set is the pool, without labels."""
        return Scenario(self.normal_classes, (), 0.0, self.gamma_p, 0.0, self.seed)

    def unsupervised(self) -> Scenario:
        """The pool: a method that does not see labels is trained on all of it, whichever rows are asked about."""
        return self.pool()

    def as_dict(self) -> dict[str, object]:
        """The values that determine the labels; without rounds, the strategy plays no role and is left out."""
        asked = {"rounds": self.rounds, "query_by": self.by, "query_count": self.count} if self.rounds else {}
        return {
            "queried": True,
            "normal_classes": list(self.normal_classes),
            "gamma_p": self.gamma_p,
            "start": self.start,
            "seed": self.seed,
            **asked,
        }


def is_queried(scenario: Scenario | dict[str, Any]) -> bool:
    """Whether a scenario, resolved or given by its settings, asks for labels in rounds."""
    return "query_by" in scenario if isinstance(scenario, dict) else isinstance(scenario, QueriedLabels)


def queried_labels(
    *,
    normal_class: object,
    gamma_p: float,
    start: int,
    rounds: int,
    query_by: str,
    query_count: int,
    seed: int,
    classes: Sequence[str],
    in_training: Collection[str] | None = None,
    strategies: Sequence[str],
) -> QueriedLabels:
    """Check the settings of a scenario with queries as far as the class names allow, and resolve its classes.

    Args:
        normal_class: index or name of the normal class, or a list of them.
        gamma_p: share of anomalies in the pool, in [0, 1).
        start: number of rows that are labeled before the first training.
        rounds: number of rounds.
        query_by: one of ``strategies``.
        query_count: number of rows asked about in a round.
        seed: determines every draw, in [0, 2^32).
        classes: the names of all classes.
        in_training: the names of the classes that have training rows; None if all have.
        strategies: the names of the strategies.

    Raises:
        DeepSADError: with every problem found.
    """
    problems = [
        f"scenario.{name} is {value}; it must be a whole number from {least} to {most:,}"
        for name, value, least, most in (
            ("start", start, 0, MOST_LABELS),
            ("rounds", rounds, 0, MOST_ROUNDS),
            ("query_count", query_count, 1, MOST_LABELS),
        )
        if not least <= value <= most
    ]
    if query_by not in strategies:
        problems.append(f"scenario.query_by is {query_by!r}; choose {', '.join(strategies)}")
    try:
        drawn = resolve_scenario(
            normal_class=normal_class,
            anomaly_class=None,
            gamma_l=0.0,
            gamma_p=gamma_p,
            k_l=0,
            gamma_n=0.0,
            seed=seed,
            classes=classes,
            in_training=in_training,
        )
    except DeepSADError as error:
        raise DeepSADError(*error.problems, *problems) from None
    if problems:
        raise DeepSADError(*problems)
    # An answer may be about an anomaly of any class.
    others = tuple(
        i
        for i, name in enumerate(classes)
        if i not in drawn.normal_classes and (in_training is None or name in in_training)
    )
    return QueriedLabels(
        drawn.normal_classes, others, 0.0, drawn.gamma_p, 0.0, seed, start, rounds, query_by, query_count
    )


def pool_of(labels: npt.ArrayLike, scenario: QueriedLabels, classes: Sequence[str] = ()) -> TrainingSet:
    """Draw the pool: all training rows of the normal classes, and rows of other classes, whose share is gamma_p.

    Args:
        labels: class index of every row of the source's training data, shape (N,).
        scenario: the scenario.
        classes: class names, for error messages.

    Raises:
        DeepSADError: if the data have too few rows for the pool, or the pool has fewer rows than are to be labeled.
    """
    pool = draw_training_set(labels, scenario.pool(), classes)
    if scenario.labels > len(pool.index):
        raise DeepSADError(
            f"scenario.start={scenario.start} and scenario.rounds={scenario.rounds} of "
            f"scenario.query_count={scenario.count} ask for {scenario.labels} labels, but the pool has "
            f"{len(pool.index)} rows; lower them"
        )
    return pool


def first_rows(pool: TrainingSet, scenario: QueriedLabels) -> IntArray:
    """The rows that are labeled before the first training, ascending, shape (start,).

    A larger ``start`` includes the rows of a smaller one; the strategy has no influence.
    """
    rng = np.random.default_rng([scenario.seed, _FIRST_LABELS, *scenario.normal_classes])
    drawn: IntArray = np.sort(rng.permutation(pool.index)[: scenario.start])
    return drawn


def query_seed(scenario: QueriedLabels) -> int:
    """The seed by which the rows of the last round are chosen; each round has its own seed."""
    sequence = np.random.SeedSequence([scenario.seed, _RANDOM_QUERIES, *scenario.normal_classes, scenario.rounds])
    return int(sequence.generate_state(1, np.uint32)[0])


def oracle(labels: npt.ArrayLike, rows: npt.ArrayLike, scenario: Scenario) -> IntArray:
    """Answer questions about rows with their true labels.

    Args:
        labels: class index of every row of the source's training data, shape (N,).
        rows: the rows that are asked about, shape (n,).
        scenario: says which classes are normal.

    Returns:
        +1 for a row that is normal, -1 for an anomaly, 0 for each row that is not asked about, shape (N,).
    """
    truth, asked = np.asarray(labels), np.asarray(rows, dtype=np.int64)
    semi_y = np.zeros(len(truth), dtype=np.int64)
    semi_y[asked] = np.where(np.isin(truth[asked], scenario.normal_classes), 1, -1)
    return semi_y


def queried_training_set(pool: TrainingSet, answers: npt.ArrayLike) -> TrainingSet:
    """Make the training set: the pool with the answers so far as its labels.

    Args:
        pool: see :func:`pool_of`.
        answers: the answers to all questions so far, see :func:`oracle`, shape (N,).
    """
    semi_y: IntArray = np.asarray(answers, dtype=np.int64)[pool.index]
    return TrainingSet(pool.index, semi_y, pool.y, counts_of_rows(semi_y, pool.y))
