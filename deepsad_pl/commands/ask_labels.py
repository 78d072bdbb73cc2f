"""Write the training samples to label next, with an empty column to fill in (``score.py query=20``)."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import as_utf8, write_atomic
from deepsad_pl.data.label_files import LABEL, ROW
from deepsad_pl.data.scenario import is_given
from deepsad_pl.detector.query import CANDIDATES, Strategy, choose, substitute_threshold

if TYPE_CHECKING:
    from deepsad_pl.commands.training_samples import TrainingSamples
    from deepsad_pl.detector.detector import Detector
    from deepsad_pl.experiment.plan import Plan

ORDER = {
    "anomalous": "the most anomalous first",
    "uncertain": "the least certain first",
    "diverse": "spread over the most anomalous ones",
}


def query_problems(plan: "Plan") -> list[str]:
    """The reason why a run cannot ask for labels, if any: at most one sentence."""
    if not plan.dataset.about.label_files:
        return [
            f"query: there is no way to feed labels of dataset={plan.dataset.name} back; train on dataset=table, or "
            "on dataset=image_folder with scenario=given"
        ]
    if not is_given(plan.scenario):
        return [
            "query: the labels of this run were drawn from known classes, so there is nothing to ask for; train with "
            "scenario=given"
        ]
    return []


def ask_labels(
    detector: "Detector",
    samples: "TrainingSamples",
    output: Path,
    *,
    count: int,
    by: Strategy,
    advance: Callable[[int], None] = lambda count: None,
) -> str:
    """Write the samples to label next, in the order in which to look at them, and return a summary.

    Args:
        detector: scores the samples.
        samples: the training samples of its run.
        output: the ``.csv`` file.
        count: number of samples; all unlabeled ones if there are fewer.
        by: see :func:`~deepsad_pl.detector.query.choose`.
        advance: called with the number of samples of each chunk after it is scored.

    Raises:
        DeepSADError: if no unlabeled sample is left, or the file cannot be written.
    """
    parts = []
    for chunk in samples.chunks(detector.facts.inputs):
        parts.append(detector.scored(chunk.prepared))
        advance(len(parts[-1]))
    score, labeled = np.concatenate(parts), samples.semi_y != 0
    if not (np.isfinite(score) & ~labeled).any():
        raise DeepSADError(f"query: none of {len(score)} training samples is unlabeled, so there is nothing to ask for")
    threshold, note = None, ""
    if by == "uncertain":
        threshold = (
            detector.threshold_value() if detector.has_threshold else substitute_threshold(score, samples.semi_y)
        )
        without = "" if detector.has_threshold else ", computed from the labels, since the run has no threshold"
        note = f" (nearest to the score {threshold:.4g}{without})"
    # Only the candidates, the samples with the highest scores, need a representation.
    among = np.arange(len(score))
    features = None
    if by == "diverse":
        among = np.sort(choose(score, by="anomalous", count=CANDIDATES * count, labeled=labeled))
        features = detector.represented(samples.prepared(among))
    chosen = among[
        choose(score[among], by=by, count=count, threshold=threshold, features=features, labeled=labeled[among])
    ]
    settings = samples.plan.dataset.settings()
    column, id = settings.get("label") or LABEL, settings.get("id")
    called = ROW if samples.called == "id" and samples.names is None else samples.called
    # The names of the columns must differ, whatever the table calls its labels.
    names = (id if column == called and id is not None else called, "anomaly_score" if column == "score" else "score")
    _write(output, (*names, column), samples.named(chosen), score[chosen])
    how = " (rows are counted from 0 over the whole table, since dataset.id is not set)" if called == ROW else ""
    return (
        f"{len(chosen):,} of {int((~labeled).sum()):,} unlabeled training samples to label, {ORDER[by]}{note}: "
        f"{output}{how}\nfill in its column {column}, leave a cell empty if you cannot tell, and train with "
        f"dataset.labels={output}"
    )


def _write(output: Path, columns: tuple[str, str, str], names: list[object], score: np.ndarray) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    ids = [as_utf8(name) if isinstance(name, str) else name for name in names]
    writer.writerows((name, f"{value:.9g}", "") for name, value in zip(ids, score, strict=True))
    try:
        write_atomic(output.expanduser(), text.getvalue())
    except OSError as error:
        raise DeepSADError(f"output: {output} cannot be written ({error.strerror}); choose another file") from error
