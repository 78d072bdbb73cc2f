"""The record of an experiment: its identity, its files, each written whole or not at all."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.errors import DeepSADError
from deepsad_pl.files import write_atomic

RECORD = "metrics.json"
SCORES = "scores.csv"


def identity_hash(identity: Mapping[str, Any]) -> str:
    """Eight hex digits of what determines a result; the order of keys does not matter."""
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def write_record(run_dir: Path, record: Mapping[str, Any]) -> None:
    """Write ``metrics.json``; its presence says that the run is finished."""
    write_atomic(run_dir / RECORD, json.dumps(record, indent=2, allow_nan=False) + "\n")


def read_record(run_dir: Path) -> dict[str, Any] | None:
    """The record of a finished run, or None.

    Raises:
        DeepSADError: if there is a file that is no record.
    """
    path = run_dir / RECORD
    if not path.exists():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DeepSADError(f"{path} is no record of a run ({error}); remove it, or use force=true") from error
    return record


def write_scores(run_dir: Path, idx: npt.ArrayLike, y: npt.ArrayLike, score: npt.ArrayLike) -> None:
    """Write ``scores.csv``: position in the test set, ground truth and anomaly score of every test sample."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("index", "y", "score"))
    scores = np.asarray(score)
    # So many digits give a number back to the bit.
    digits = 9 if scores.dtype == np.float32 else 17
    rows = zip(np.asarray(idx).tolist(), np.asarray(y).tolist(), scores, strict=True)
    writer.writerows((i, label, f"{value:.{digits}g}") for i, label, value in rows)
    write_atomic(run_dir / SCORES, text.getvalue())
