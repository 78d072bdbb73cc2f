"""User-defined metrics: ``metrics.<name>`` is a function of the ground truth and the scores of a test set.

This module does not import torch, so that adding a metric to a finished experiment is fast.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.components import fingerprint, instantiate, problems_of, targets_of
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import TAKEN_NAMES, read_scores

_TARGET = "_target_"
# The positional arguments of every metric.
_GIVEN = ("y", "score")
_FUNCTION = "the function (y, score) -> float, and its further arguments"


@dataclass(frozen=True)
class OwnMetric:
    """A metric requested by the settings.

    Attributes:
        node: its ``_target_`` and its arguments.
        description: target, arguments and code, as a record stores them; a value with another description is outdated.
    """

    node: Mapping[str, Any]
    description: Mapping[str, Any]


def metric_problems(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each problem in the settings of the metrics, without importing the metrics."""
    for name, node in metrics.items():
        key = f"metrics.{name}"
        if not name.isidentifier():
            yield f"{key}: {name!r} names a field of metrics.json; use letters, digits and '_', and no digit first"
        elif name in TAKEN_NAMES:
            yield f"{key}: {name} is the name of another field of the results; give the metric another name"
        if not (isinstance(node, Mapping) and isinstance(node.get(_TARGET), str)):
            yield f"{key} is {node!r}; give a mapping with {_TARGET}, {_FUNCTION}"
        elif "_args_" in node:
            yield f"{key}._args_ is {node['_args_']!r}, but y and score come first; give other arguments by their names"
        else:
            yield from problems_of(node, key, given=_GIVEN)


def own_metrics(metrics: Mapping[str, Any]) -> dict[str, OwnMetric]:
    """The metrics by name, each with a description that includes its code.

    Args:
        metrics: settings of the metrics, already checked.

    Raises:
        DeepSADError: if the source code of a metric cannot be read.
    """
    return {name: OwnMetric(node, _description(node)) for name, node in metrics.items()}


def _description(node: Mapping[str, Any]) -> dict[str, Any]:
    what = {
        "target": node[_TARGET],
        "arguments": {key: value for key, value in node.items() if key != _TARGET},
        "code": [fingerprint(target) for target in targets_of(node)],
    }
    # Equal to what is read back from a record, in which NaN and infinity are stored as text.
    found: dict[str, Any] = json.loads(json.dumps(what, default=str), parse_constant=str)
    return found


def values_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The values of the user-defined metrics in a record, by name."""
    return {name: record[name] for name in record.get("metrics", {})}


def lacking(metrics: Mapping[str, OwnMetric], record: Mapping[str, Any]) -> dict[str, OwnMetric]:
    """The metrics that a record lacks, or for which it has a value computed with other arguments or code."""
    known = record.get("metrics", {})
    return {name: metric for name, metric in metrics.items() if known.get(name) != metric.description}


def with_metrics(
    run_dir: Path, record: Mapping[str, Any], metrics: Mapping[str, OwnMetric]
) -> tuple[dict[str, Any], DeepSADError | None]:
    """Add the metrics that a record lacks, computed from the experiment's ``scores.csv``.

    Args:
        run_dir: the run folder, which contains the scores.
        record: record of the experiment; its other metrics are kept.
        metrics: the requested metrics.

    Returns:
        The record with a value for each metric that could be computed, and an error about the others, or None. Without
        known normal samples or without known anomalies in the test set, no metric is computed.
    """
    done, failures = dict(record), list[DeepSADError]()
    if missing := lacking(metrics, record):
        y, score = read_scores(run_dir)
        y, score = y[y >= 0], score[y >= 0]
        if len(np.unique(y)) < 2:
            return done, None
        for name, metric in missing.items():
            try:
                # Each metric gets a copy, in case it sorts in place.
                value = _value(f"metrics.{name}", metric.node, y.copy(), score.copy())
            except DeepSADError as failure:
                failures.append(failure)
            else:
                described = {**done.get("metrics", {}), name: dict(metric.description)}
                done |= {name: value, "metrics": described}
    if not failures:
        return done, None
    error = DeepSADError(*(problem for failure in failures for problem in failure.problems))
    # So that a log shows the traceback of each failure.
    error.__cause__ = ExceptionGroup("metrics failed", failures)
    return done, error


def _value(key: str, node: Mapping[str, Any], y: npt.NDArray[np.int64], score: npt.NDArray[np.float64]) -> float:
    """Compute a metric for one test set.

    Raises:
        DeepSADError: if it cannot be imported, fails or returns anything but a finite number.
    """
    target = node[_TARGET]
    function = instantiate({**node, "_partial_": True}, key)
    try:
        found = function(y, score)
        is_number = isinstance(found, bool | int | float | np.bool_ | np.integer | np.floating)
        value = float(found) if is_number else math.nan
    except Exception as error:
        said = str(error).partition("\n")[0].rstrip(".")
        raise DeepSADError(
            f"{key}: {target} failed ({type(error).__name__}: {said}); correct its arguments or its code, and "
            "the same command computes it from scores.csv"
        ) from error
    if not math.isfinite(value):
        shown = " ".join(repr(found).split())
        shown = shown if len(shown) <= 80 else f"{shown[:80]}..."
        raise DeepSADError(
            f"{key}: {target} returned {shown} ({type(found).__name__}); let it return one finite number, and the same "
            "command computes it from scores.csv"
        )
    return value
