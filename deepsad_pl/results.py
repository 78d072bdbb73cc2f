"""The record of an experiment: its identity, its files, each written whole or not at all."""

import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

RECORD = "metrics.json"
SCORES = "scores.csv"


def identity_hash(identity: Mapping[str, Any]) -> str:
    """Eight hex digits of what determines a result; the order of keys does not matter."""
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def write_atomic(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all, whenever the process dies."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp's 0600 would hide results from the rest of a group.
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_record(run_dir: Path, record: Mapping[str, Any]) -> None:
    """Write ``metrics.json``; its presence says that the run is finished."""
    write_atomic(run_dir / RECORD, json.dumps(record, indent=2, allow_nan=False) + "\n")


def read_record(run_dir: Path) -> dict[str, Any] | None:
    """The record of a finished run, or None."""
    path = run_dir / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_scores(run_dir: Path, idx: npt.ArrayLike, y: npt.ArrayLike, score: npt.ArrayLike) -> None:
    """Write ``scores.csv``: position in the test set, ground truth and anomaly score of every test sample."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("index", "y", "score"))
    rows = zip(np.asarray(idx).tolist(), np.asarray(y).tolist(), np.asarray(score), strict=True)
    # Nine digits give a float32 back to the bit.
    writer.writerows((i, label, f"{value:.9g}") for i, label, value in rows)
    write_atomic(run_dir / SCORES, text.getvalue())
