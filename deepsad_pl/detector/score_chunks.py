"""Score chunks of samples with a detector and write the results."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from deepsad_pl.detector.detector import Detector
from deepsad_pl.detector.read_input import Chunk
from deepsad_pl.detector.reasons import Explain
from deepsad_pl.detector.write_output import Output


@dataclass
class Tally:
    """Counts of samples.

    Attributes:
        scored: samples with a score.
        unscored: samples that cannot be scored.
        anomalies: samples above the threshold; None without a threshold.
        unusual: see :class:`~deepsad_pl.detector.inputs.Prepared`.
    """

    scored: int = 0
    unscored: int = 0
    anomalies: int | None = None
    unusual: Counter[str] = field(default_factory=Counter)


def score_chunks(
    detector: Detector,
    chunks: Iterable[Chunk],
    output: Output,
    *,
    tell: Callable[[str], None],
    advance: Callable[[int], None],
    explain: Explain | None = None,
) -> Tally:
    """Score all chunks and write their scores.

    Args:
        detector: the detector.
        chunks: the samples.
        output: file of the scores; p-value and anomaly are blank without a threshold or a score.
        tell: called with a sentence for each sample that cannot be scored.
        advance: called with the number of samples of each chunk after it is written.
        explain: returns the further columns of the output for the samples that have a score; None: there are none.
    """
    tally = Tally(anomalies=0 if detector.has_threshold else None)
    for chunk in chunks:
        score = detector.scored(chunk.prepared)
        known = np.isfinite(score)
        p_value, anomaly = np.full(len(score), np.nan), np.full(len(score), pd.NA, dtype=object)
        if detector.has_threshold:
            p_value[known] = detector.p_values_of(score[known])
            anomaly[known] = detector.are_anomalies(score[known]).astype(int)
            tally.anomalies = (tally.anomalies or 0) + int(anomaly[known].sum())
        output.write(list(chunk.ids), score, p_value, anomaly, *_spread(explain, chunk, known))
        tally.unusual += chunk.prepared.unusual
        tally.scored += int(known.sum())
        tally.unscored += len(score) - int(known.sum())
        for place, told in sorted(chunk.prepared.problems.items()):
            tell(f"{chunk.names[place]} cannot be scored: {told}")
        advance(len(score))
    return tally


def _spread(explain: Explain | None, chunk: Chunk, known: npt.NDArray[np.bool_]) -> list[list[str]]:
    """The further columns, empty for samples without a score."""
    if explain is None:
        return []
    columns = []
    for texts in explain(chunk, known):
        column = np.full(len(known), "", dtype=object)
        column[known] = texts
        columns.append(column.tolist())
    return columns
