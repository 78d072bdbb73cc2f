"""All metrics of a test set, with known and novel anomaly classes apart. Only looking up classes imports torch."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import as_utf8
from deepsad_pl.common.metrics import auroc_by_class, auroc_of_union, ranking_metrics
from deepsad_pl.common.records import APART, CLASSES, METRICS, read_indexed_scores
from deepsad_pl.data.queried_labels import is_queried
from deepsad_pl.data.scenario import is_given
from deepsad_pl.experiment.plan import Plan

log = logging.getLogger(__name__)

Labels = npt.NDArray[np.int64]


def names_of(classes: Sequence[str], labels: npt.ArrayLike) -> npt.NDArray[Any]:
    """The class names of samples, as UTF-8 can encode them, for ``scores.csv``.

    Args:
        classes: names of all classes.
        labels: class index of each sample, shape (n,).
    """
    found: npt.NDArray[Any] = np.array([as_utf8(name) for name in classes], dtype=object)[np.asarray(labels)]
    return found


def known_classes(plan: Plan, labels_train: npt.ArrayLike, labeled_rows: npt.ArrayLike) -> list[str]:
    """The names of the anomaly classes of which samples are labeled in training.

    Args:
        plan: plan of the experiment.
        labels_train: class index of every row of the training data, shape (N,); only read with ``scenario=queried``,
            where it depends on the answers which classes are known.
        labeled_rows: positions of the labeled rows in the training data; only read with ``scenario=queried``.
    """
    scenario = plan.scenario
    if not is_queried(scenario):
        return [plan.classes[c] for c in scenario.known_classes]
    found = np.unique(np.asarray(labels_train)[np.asarray(labeled_rows, dtype=np.int64)])
    return [plan.classes[c] for c in found.tolist() if c not in scenario.normal_classes]


def metrics_of(
    score: npt.ArrayLike, y: npt.ArrayLike, labels: npt.ArrayLike | None, classes: Sequence[str], known: Iterable[str]
) -> dict[str, Any]:
    """All metrics of a test set, in the order of a record, and the AUROC of each anomaly class.

    Args:
        score: anomaly scores, shape (n,).
        y: ground truth: 0 normal, 1 anomaly, -1 not known, shape (n,).
        labels: class index of each sample, shape (n,); None if the classes are not known.
        classes: names of all classes.
        known: names of the known anomaly classes.

    Returns:
        :data:`~deepsad_pl.common.records.METRICS`, None where a metric is not defined; and with classes, ``classes``:
        ``test`` (number of samples) and ``auroc`` (against all normal samples) by name of the anomaly class.

    Raises:
        ValueError: if a score is not finite.
    """
    found: dict[str, Any] = {**dict.fromkeys(METRICS), **ranking_metrics(score, y)}
    if labels is None or found["auroc"] is None:
        return found
    parts = auroc_by_class(score, y, labels)
    each = {classes[c]: {"test": size, "auroc": value} for c, (size, value) in parts.items()}
    return found | known_and_novel(each, known, int((np.asarray(y) == 0).sum())) | {CLASSES: each}


def known_and_novel(
    classes: Mapping[str, Mapping[str, Any]], known: Iterable[str], normals: int
) -> dict[str, float | None]:
    """The AUROC of the known and of the novel anomaly classes, each against all normal samples.

    Args:
        classes: the entry ``classes`` of a record.
        known: names of the known anomaly classes.
        normals: number of normal test samples.

    Returns:
        ``auroc_known`` and ``auroc_novel``; None where the test set has no anomaly of that kind.
    """
    names = set(known)
    kinds = ([one for name, one in classes.items() if (name in names) is wanted] for wanted in (True, False))
    parts = ([(one["test"], one["auroc"]) for one in kind] for kind in kinds)
    return dict(zip(APART, (auroc_of_union(part, normals) for part in parts), strict=True))


def lacks_metrics(record: Mapping[str, Any]) -> bool:
    """Whether a record is of an earlier release, which had fewer metrics."""
    return any(name not in record or name in record.get("metrics", {}) for name in METRICS)


def with_all_metrics(plan: Plan, record: Mapping[str, Any]) -> dict[str, Any]:
    """Add the metrics that the record of an earlier release lacks, computed from the experiment's ``scores.csv``.

    The classes are looked up by position in the plan's data, which must agree with the ground truth of the scores;
    where the data cannot be had or do not agree, known and novel anomalies stay blank, with a warning. What a record
    already has is kept.

    Args:
        plan: plan of the experiment.
        record: its record.
    """
    if not lacks_metrics(record):
        return dict(record)
    index, y, score = read_indexed_scores(plan.run_dir)
    labels, known, problem = None, list[str](), None
    if not is_given(plan.scenario):
        try:
            labels_train, labels_test = _labels(plan)
            labels = labels_test[index]
            if not np.array_equal(~np.isin(labels, plan.scenario.normal_classes), y == 1):
                raise DeepSADError("its ground truth is not that of the data")
            known = known_classes(plan, labels_train, record.get("labeled_rows", ()))
        except (DeepSADError, IndexError) as error:
            labels, problem = None, error
    found = metrics_of(score, y, labels, plan.classes, known)
    if problem is not None:
        log.warning(
            "%s: the classes of the scores are not known (%s), so auroc_known and auroc_novel are blank; force=true "
            "trains it again and tells them",
            plan.run_dir,
            str(problem).partition("\n")[0],
        )
    own = {name: what for name, what in record.get("metrics", {}).items() if name not in METRICS}
    kept = {name: record[name] for name in METRICS if name in record and name not in record.get("metrics", {})}
    rest = {name: value for name, value in record.items() if name not in (*METRICS, "metrics")}
    return found | kept | rest | ({"metrics": own} if own else {})


_known_labels: dict[str, tuple[Labels, Labels] | DeepSADError] = {}


def _labels(plan: Plan) -> tuple[Labels, Labels]:
    """The class of every row of the training and of the test data, read once for all experiments that share them.

    Raises:
        DeepSADError: if the data cannot be had, or have changed.
    """
    # Without a test set of its own, a data set is split by the seed.
    seed = None if plan.dataset.about.own_test_set else plan.seed
    key = json.dumps(
        [plan.identity["dataset"], plan.dataset.settings(), str(plan.data_dir), seed], sort_keys=True, default=str
    )
    if key not in _known_labels:
        # Imported here because it loads torch, which no other finished experiment needs.
        from deepsad_pl.experiment.build import load_data

        try:
            source = load_data(plan)
        except DeepSADError as error:
            _known_labels[key] = error
        else:
            _known_labels[key] = source.labels_train, source.labels_test
    found = _known_labels[key]
    if isinstance(found, DeepSADError):
        raise found
    return found
