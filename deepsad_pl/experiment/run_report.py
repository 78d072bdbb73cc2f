"""Write ``report.html``, the page of a finished run, from its files and its data."""

import csv
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.checkpoints import DamagedError, from_bytes
from deepsad_pl.common.files import write_atomic
from deepsad_pl.common.ranks import is_main_process
from deepsad_pl.common.records import REPORT, SCORES, read_indexed_scores
from deepsad_pl.data.scenario import is_given
from deepsad_pl.detector.detector import Detector
from deepsad_pl.detector.detector_folder import DETECTOR
from deepsad_pl.detector.inputs import Prepared
from deepsad_pl.experiment.asked import LABELED_ROWS
from deepsad_pl.experiment.build import Parts
from deepsad_pl.experiment.class_metrics import known_classes
from deepsad_pl.experiment.finished import CHECKPOINTS, lacks_report
from deepsad_pl.experiment.fit_deep import CHECKPOINT_OF, LOSSES
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.pages.run_page import RunResults, run_page
from deepsad_pl.pages.shown_samples import Group, Samples, groups_of
from deepsad_pl.settings.own_metrics import values_of
from deepsad_pl.tracking.trackers import LOSSES as LOSS_TABLE
from deepsad_pl.training.trainer import has_collapsed

log = logging.getLogger(__name__)

# Number of training samples that are scored at once.
_AT_ONCE = 4096


@dataclass(frozen=True)
class Trained:
    """The source of the samples on a page.

    Attributes:
        plan: plan of the experiment.
        parts: its data.
        detector: its trained detector.
    """

    plan: Plan
    parts: Parts
    detector: Detector


def try_report(plan: Plan, parts: Callable[[], Parts], record: Mapping[str, Any]) -> None:
    """Like :func:`write_report`, but an error becomes a warning, since the experiment itself is finished.

    Args:
        plan: plan of the experiment.
        parts: returns its data.
        record: its record.
    """
    try:
        write_report(plan.run_dir, record, Trained(plan, parts(), Detector.read(plan.run_dir / DETECTOR)))
    # Any exception, since a user's own method or a full disk may raise it: the results are safe without the page.
    except Exception as error:
        log.debug("the page of %s failed", plan.run_dir, exc_info=True)
        said = str(error).partition("\n")[0]
        told = "%s was not written (%s: %s), but the run is finished; python report.py run=%s writes it"
        log.warning(told, plan.run_dir / REPORT, type(error).__name__, said, plan.run_dir)


def add_report(plan: Plan, parts: Callable[[], Parts], record: Mapping[str, Any], *, single: bool = False) -> None:
    """Write the page of an experiment that was finished before, if it should have one and has none.

    Args:
        plan: plan of the experiment.
        parts: returns its data.
        record: its record.
        single: see :func:`~deepsad_pl.experiment.finished.lacks_report`.
    """
    if lacks_report(plan, single=single) and is_main_process(plan.ranks):
        try_report(plan, parts, record)


def write_report(run_dir: Path, record: Mapping[str, Any], trained: Trained | None, *, without: str = "") -> Path:
    """Write the page of a finished run into its folder, and return its path.

    The test set is not scored again: the page shows the scores that the run has kept.

    Args:
        run_dir: the run folder.
        record: record of the run.
        trained: its data and its detector; None: they cannot be had, so the page shows no samples.
        without: why they cannot be had, a sentence for the page.

    Raises:
        DeepSADError: if its detector cannot be used.
        OSError: if a file cannot be read or the page cannot be written.
        ValueError: if ``scores.csv`` is damaged.
    """
    index, y, score = read_indexed_scores(run_dir)
    names, classes = _names_and_classes(run_dir / SCORES, index)
    losses, missing = _losses(run_dir, record)
    scenario = record["scenario"]
    known = scenario.get("anomaly_class", [])
    if trained is not None and LABELED_ROWS in record:
        known = known_classes(trained.plan, trained.parts.data.source.labels_train, record[LABELED_ROWS])
    if classes is None and not scenario.get("given"):
        missing.append(f"Classes: {SCORES} does not say them, since it is of an earlier release.")
    groups: list[Group] = []
    if trained is None:
        missing.append(f"Samples: {without}.")
    else:
        if not trained.detector.explains:
            missing.append("Heat maps and strongest columns: the detector is of a release that kept no references.")
        of_test = _test_samples(trained.parts, index, y, score, names, classes)
        groups = groups_of(trained.detector, [*of_test, _unlabeled(trained)])
    spreads = record.get("spread", {})
    results = RunResults(
        record=record,
        y=y,
        score=score,
        classes=classes,
        known=known,
        losses=losses,
        own_metrics=values_of(record),
        collapsed=[name for name, one in spreads.items() if has_collapsed(one["initial"], one["final"])],
        missing=missing,
    )
    path = run_dir / REPORT
    write_atomic(path, run_page(results, groups))
    return path


def _names_and_classes(path: Path, index: npt.NDArray[np.int64]) -> tuple[list[str], list[str] | None]:
    """The name of each test sample and its class, in the order of the file; None if no class is known."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    classes = [row.get("class") or "" for row in rows]
    names = [row.get("id") or str(place) for row, place in zip(rows, index.tolist(), strict=True)]
    return names, classes if any(classes) else None


def _losses(run_dir: Path, record: Mapping[str, Any]) -> tuple[dict[str, Sequence[float]], list[str]]:
    """The mean loss of each epoch of each training, and a sentence about each that is not known."""
    found: dict[str, Sequence[float]] = {}
    missing = []
    table = _loss_table(run_dir / LOSS_TABLE)
    for name in record.get("spread", {}):
        try:
            kept = from_bytes((run_dir / CHECKPOINTS / CHECKPOINT_OF[name]).read_bytes()).get(LOSSES)
        except (OSError, DamagedError):
            kept = None
        if losses := kept or table.get(name):
            found[name] = losses
        else:
            missing.append(f"Losses of {name}: they were not kept by the release that trained it.")
    return found, missing


def _loss_table(path: Path) -> dict[str, list[float]]:
    """The mean loss of each epoch in ``losses.csv``, by training; nothing without such a file."""
    values: dict[str, dict[int, list[float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                values.setdefault(row["phase"], {}).setdefault(int(row["epoch"]), []).append(float(row["loss"]))
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        log.warning("%s is damaged (%s), so the page shows none of its losses", path, error)
        return {}
    return {
        name: [float(np.mean(epochs[epoch])) if epoch in epochs else math.nan for epoch in range(max(epochs) + 1)]
        for name, epochs in values.items()
    }


def _test_samples(
    parts: Parts,
    index: npt.NDArray[np.int64],
    y: npt.NDArray[np.int64],
    score: npt.NDArray[np.float64],
    names: Sequence[str],
    classes: Sequence[str] | None,
) -> list[Samples]:
    """The normal test samples and the anomalous ones."""
    x, found = parts.data.source.x_test, []
    for label, title, about, highest in (
        (0, "Most anomalous normal test samples", "The first false alarms as the threshold is lowered.", True),
        (1, "Least anomalous anomalies of the test set", "The last ones to be found as it is lowered.", False),
        (-1, "Most anomalous test samples whose truth is not known", "The first to look at.", True),
    ):
        rows = np.flatnonzero(y == label)
        places = rows.tolist()
        of_rows = ["" if classes is None else classes[row] for row in places]
        called = [names[row] for row in places]
        found.append(Samples(title, about, x, index[rows], score[rows], called, of_rows, highest))
    return found


def _unlabeled(trained: Trained) -> Samples:
    """The unlabeled training samples, scored by the detector."""
    source, drawn, plan = trained.parts.data.source, trained.parts.data.training_set, trained.plan
    is_open = drawn.semi_y == 0
    rows = drawn.index[is_open]
    parts_of_rows = [rows[first : first + _AT_ONCE] for first in range(0, len(rows), _AT_ONCE)]
    score = [np.empty(0), *(trained.detector.scored(Prepared(source.x_train[part])) for part in parts_of_rows)]
    if source.ids_train is not None:
        called = source.ids_train[rows]
    else:
        called = rows if source.rows_train is None else source.rows_train[rows]
    classes, about = [""] * len(rows), "The first ones to check."
    if not is_given(plan.scenario):
        classes = [
            plan.classes[label] + (", pollution" if anomalous else "")
            for label, anomalous in zip(source.labels_train[rows], drawn.y[is_open], strict=True)
        ]
        about = "The training did not know their classes; anomalies among them are pollution."
    return Samples(
        "Most anomalous unlabeled training samples",
        about,
        source.x_train,
        rows,
        np.concatenate(score),
        list(map(str, called.tolist())),
        classes,
        highest=True,
    )
