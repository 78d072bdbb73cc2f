"""The record of an experiment: its identity and its files, which are written atomically and checked when read."""

import csv
import hashlib
import io
import json
import logging
import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import read_json, write_atomic
from deepsad_pl.common.metrics import auroc

log = logging.getLogger(__name__)

RECORD = "metrics.json"
SCORES = "scores.csv"
# The page of a run, and of a study.
REPORT = "report.html"

# The metrics of a test set, in the order of a record.
METRICS = (
    *("auroc", "auroc_known", "auroc_novel", "average_precision"),
    *("auroc_fpr_10", "recall_fpr_1", "recall_fpr_5"),
)
# Those of the first release, which every record has.
_FIRST_METRICS = ("auroc", "average_precision")
# Metrics for which the anomaly classes count apart; they are blank where no class is known, or all are.
APART = ("auroc_known", "auroc_novel")
# In the file of a record: the SHA-256 of all the rest.
_CHECKSUM = "sha256"
# In a record: AUROC and number of test samples of each anomaly class.
CLASSES = "classes"
_COUNTS = (
    *("train", "unlabeled", "pollution", "labeled_normals", "labeled_anomalies"),
    *("test", "test_normal", "test_anomalous"),
)

# Names that a custom metric must not have: other fields of a record, columns of a study's results, and what a tracker
# shows of the test set.
TAKEN_NAMES = frozenset(
    (
        *METRICS,
        *("dataset", "method", "seed", "scenario", "hash", "identity", "versions", "counts", "seconds", "spread"),
        *("epochs", "reused", "selection", "trainer", "command", "scores", "metrics", "threshold", "known_anomalies"),
        *("column", "variant", "normal_class", "anomaly_class", "experiment", "borrowed", "protocol", "paper_n"),
        *("lr_from_test", "setting_from_test", "finished", "known", "population", "drawn_from"),
        *("seed_draws", "as_paper", "labels", "heading", "run_with", "test_informed", CLASSES),
        *("results_version", _CHECKSUM),
        *("roc", "scores_normal", "scores_anomalous"),
    )
)

# The protocol of a record's selection that uses test labels.
LOOKS_AT_TEST_LABELS = "test_subset"

# How far the AUROC computed from the scores may be from the record's. Older records were rounded to float32.
AUROC_TOLERANCE = 1e-6


def identity_hash(identity: Mapping[str, Any]) -> str:
    """Hash everything that determines a result to eight hex digits; the order of keys does not matter."""
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def auroc_of(record: Mapping[str, Any]) -> float:
    """The AUROC of a record, in [0, 1]; NaN if the test set has no known normal samples or no known anomalies."""
    return math.nan if record["auroc"] is None else float(record["auroc"])


def write_record(run_dir: Path, record: Mapping[str, Any]) -> None:
    """Write ``metrics.json``, with a checksum; a valid one marks the run as finished."""
    whole = {**record, _CHECKSUM: _checksum(record)}
    write_atomic(run_dir / RECORD, json.dumps(whole, indent=2, allow_nan=False) + "\n")


def _checksum(record: Mapping[str, Any]) -> str:
    """The SHA-256 of a record as it is read back, in which all keys are text."""
    as_read = json.loads(json.dumps(record))
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


def undamaged_record(run_dir: Path) -> Any:
    """Read ``metrics.json`` of any experiment as it was written; what it holds is checked by :func:`read_record` alone.

    Raises:
        ValueError: if it is not JSON or has changed since.
        OSError: if it cannot be read.
    """
    record = read_json(run_dir / RECORD)
    # Records of earlier releases have no checksum.
    known = record.pop(_CHECKSUM, None) if isinstance(record, dict) else None
    if known not in (None, _checksum(record)):
        raise ValueError("its SHA-256 differs")
    return record


def read_record(run_dir: Path, expected_hash: str) -> dict[str, Any] | None:
    """Read the record of a finished run; None if it does not exist or, with a warning, if it is invalid.

    Args:
        run_dir: the run folder.
        expected_hash: :func:`identity_hash` of the experiment that the record must belong to.

    Raises:
        DeepSADError: if the file cannot be read at all.
    """
    path = run_dir / RECORD
    try:
        return valid_record(run_dir, expected_hash)
    except FileNotFoundError:
        return None
    except ValueError as error:
        warn_once(f"{path} is not a valid record ({error}), so the experiment counts as unfinished")
        return None
    except OSError as error:
        raise DeepSADError(
            f"{path} cannot be read ({error}); make it readable, or choose another output_dir"
        ) from error


def valid_record(run_dir: Path, expected_hash: str) -> dict[str, Any]:
    """Read the record of a finished run.

    Args:
        run_dir: the run folder.
        expected_hash: :func:`identity_hash` of the experiment that the record must belong to.

    Raises:
        ValueError: if it is damaged, or not the experiment's.
        OSError: if it cannot be read.
    """
    record = undamaged_record(run_dir)
    if (problem := next(_record_problems(record, expected_hash), None)) is not None:
        raise ValueError(problem)
    assert isinstance(record, dict)
    return record


@cache
def warn_once(message: str) -> None:
    """Log a warning only once per process, since files are checked many times."""
    log.warning("%s", message)


def _record_problems(record: Any, expected_hash: str) -> Iterator[str]:
    """Why a record is not a valid one of the experiment; records of every release are accepted."""
    if not isinstance(record, dict):
        yield f"it holds a {type(record).__name__} instead of an object"
        return
    if record.get("hash") != expected_hash:
        yield f"its hash is {record.get('hash')!r}, but the experiment's is {expected_hash!r}"
    counts = record.get("counts")
    blank = _is_given(record) and _has_no_metrics(counts)
    for key in METRICS:
        value: Any = record.get(key, "missing" if key in _FIRST_METRICS else None)
        if value is None and (blank or key not in _FIRST_METRICS):
            continue
        # A metric of the user's own may have had this name before the package had it.
        if blank or not (key in _own(record) or (_is_number(value) and value <= 1)):
            yield f"its {key} is {record.get(key)!r}, which is not a number in [0, 1]"
    if not _are_classes(record.get(CLASSES, {})):
        yield f"its {CLASSES} are {record[CLASSES]!r}, which are not an AUROC and a number of samples each"
    for key in ("dataset", "method"):
        if not isinstance(record.get(key), str):
            yield f"its {key} is {record.get(key)!r}, which is not a name"
    kinds = [key for key in _COUNTS if key != "pollution" or not _is_given(record)]
    if not (isinstance(counts, dict) and all(_is_count(counts.get(key)) for key in kinds)):
        yield f"its counts are {counts!r}, which are not the numbers of {', '.join(kinds)}"
    elif not (_is_given(record) or (counts["test_normal"] and counts["test_anomalous"])) or (
        counts["test_normal"] + counts["test_anomalous"] + counts.get("test_unknown", 0) != counts["test"]
    ):
        yield f"its counts of test samples do not add up: {counts!r}"
    seconds = record.get("seconds")
    if not (isinstance(seconds, dict) and seconds and all(map(_is_number, seconds.values()))):
        yield f"its seconds are {seconds!r}, which are not numbers"
    if not isinstance(record.get("selection", {}), dict):
        yield f"its selection is {record['selection']!r}, which is not an object"
    own = record.get("metrics", {})
    if not (isinstance(own, dict) and all(isinstance(what, dict) for what in own.values())):
        yield f"its metrics are {own!r}, which are not objects"
    else:
        for name in own:
            # Unlike all other numbers, custom metrics may be negative.
            if not _is_finite(value := record.get(name)):
                yield f"its {name} is {value!r}, which is not a finite number"
    threshold = record.get("threshold", {"value": 0.0, "rows": 0})
    if not (isinstance(threshold, dict) and _is_finite(threshold.get("value")) and _is_count(threshold.get("rows"))):
        yield f"its threshold is {threshold!r}, without a finite value and a number of rows"
    scores = record.get("scores", {"bytes": 0, "sha256": ""})
    if not (isinstance(scores, dict) and _is_count(scores.get("bytes")) and isinstance(scores.get("sha256"), str)):
        yield f"its scores are {scores!r}, which are not the bytes and sha256 of {SCORES}"


def _own(record: Mapping[str, Any]) -> Mapping[str, Any]:
    own = record.get("metrics", {})
    return own if isinstance(own, dict) else {}


def _are_classes(classes: Any) -> bool:
    return isinstance(classes, dict) and all(
        isinstance(one, dict) and _is_count(one.get("test")) and _is_number(one.get("auroc")) and one["auroc"] <= 1
        for one in classes.values()
    )


def _is_given(record: Mapping[str, Any]) -> bool:
    """Whether the labels came with the data, so that the truth of test samples need not be known."""
    scenario = record.get("scenario")
    return isinstance(scenario, dict) and scenario.get("given") is True


def _has_no_metrics(counts: Any) -> bool:
    """Whether AUROC is not defined, since there are no known normal or no known anomalous test samples."""
    return isinstance(counts, dict) and 0 in (counts.get("test_normal"), counts.get("test_anomalous"))


def _is_number(value: Any) -> bool:
    return _is_finite(value) and bool(value >= 0)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def write_scores(
    run_dir: Path,
    idx: npt.ArrayLike,
    y: npt.ArrayLike,
    score: npt.ArrayLike,
    ids: npt.ArrayLike | None = None,
    classes: npt.ArrayLike | None = None,
) -> dict[str, Any]:
    """Write ``scores.csv``: position in the test set, ground truth, anomaly score and class of every test sample.

    Args:
        run_dir: the run folder.
        idx: position of each sample in the test set, shape (n,).
        y: its ground truth: 0 normal, 1 anomaly, -1 not known, which leaves the cell empty, shape (n,).
        score: its anomaly score, shape (n,).
        ids: names of all test samples, by position, for a column ``id``; None: no such column.
        classes: names of the classes of all test samples, by position; None: they are not known, so the cells of the
            column ``class`` are empty.

    Returns:
        The ``bytes`` and ``sha256`` of the file, for the record.
    """
    text, names = io.StringIO(), None if ids is None else np.asarray(ids)
    of_class = None if classes is None else np.asarray(classes)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("index", "y", "score", "class", *(("id",) if names is not None else ())))
    scores = np.asarray(score)
    # With this many digits a number is read back bit for bit.
    digits = 9 if scores.dtype == np.float32 else 17
    rows = zip(np.asarray(idx).tolist(), np.asarray(y).tolist(), scores, strict=True)
    writer.writerows(
        (
            *(i, "" if label < 0 else label, f"{value:.{digits}g}", "" if of_class is None else of_class[i]),
            *((names[i],) if names is not None else ()),
        )
        for i, label, value in rows
    )
    content = text.getvalue().encode()
    write_atomic(run_dir / SCORES, content)
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def read_scores(run_dir: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Read the ground truth and anomaly score of every test sample, shape (n,) each, in the order of ``scores.csv``.

    The ground truth is -1 where it is not known. Columns are found by name; other columns are ignored.

    Raises:
        OSError: if the file does not exist or cannot be read.
        ValueError: if it is damaged.
    """
    return read_indexed_scores(run_dir)[1:]


def read_indexed_scores(run_dir: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """As :func:`read_scores`, preceded by the position of every sample in the test set, shape (n,).

    Raises:
        OSError: if the file does not exist or cannot be read.
        ValueError: if it is damaged.
    """
    return _parsed((run_dir / SCORES).read_bytes())


def scores_problem(run_dir: Path, record: Mapping[str, Any], *, contents: bool = True) -> str | None:
    """What is wrong with the ``scores.csv`` of a finished run, or None.

    Args:
        run_dir: the run folder.
        record: the valid record of the run. Records of earlier releases have no checksum of the file; then the scores
            themselves are checked: their number, that they are finite, and that they give the record's AUROC.
        contents: whether to read the file; otherwise only its size is checked.

    Raises:
        DeepSADError: if the file cannot be read.
    """
    path, known = run_dir / SCORES, record.get("scores")
    try:
        size = path.stat().st_size
        if size == 0 or (known and size != known["bytes"]):
            return f"is damaged ({size} bytes)"
        if not contents:
            return None
        content = path.read_bytes()
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        raise DeepSADError(
            f"{path} cannot be read ({error}); make it readable, or choose another output_dir"
        ) from error
    if known:
        return None if hashlib.sha256(content).hexdigest() == known["sha256"] else "is damaged (its SHA-256 differs)"
    try:
        _check_scores(content, record)
    except ValueError as error:
        return f"is damaged ({error})"
    return None


def _parsed(content: bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Parse the columns ``index``, ``y`` and ``score`` of a CSV file.

    Raises:
        ValueError: if a column is missing or the content is not a CSV file of numbers.
    """
    try:
        header, *rows = csv.reader(io.StringIO(content.decode()), strict=True)
        if missing := {"index", "y", "score"}.difference(header):
            raise ValueError(f"it has no column {', '.join(sorted(missing))}")
        if any(len(row) != len(header) for row in rows):
            raise ValueError(f"a row does not have {len(header)} columns")
        columns = {name: [row[place] for row in rows] for place, name in enumerate(header)}
        index = np.array([int(value) for value in columns["index"]], np.int64)
        y = np.array([int(value or -1) for value in columns["y"]], np.int64)
    except (csv.Error, OverflowError) as error:
        raise ValueError(str(error)) from error
    return index, y, np.array([float(value) for value in columns["score"]])


def _check_scores(content: bytes, record: Mapping[str, Any]) -> None:
    index, y, score = _parsed(content)
    counts = record["counts"]
    if not np.array_equal(np.sort(index), np.arange(counts["test"])):
        raise ValueError(f"its {len(index)} rows do not match the {counts['test']} test samples")
    if not np.isin(y, (0, 1)).all() or y.sum() != counts["test_anomalous"]:
        raise ValueError(f"y does not mark {counts['test_anomalous']} anomalies")
    if not np.isfinite(score).all():
        raise ValueError("a score is not finite")
    if abs((found := auroc(score, y)) - record["auroc"]) > AUROC_TOLERANCE:
        raise ValueError(f"its AUROC is {found:.6f}, but the record's is {record['auroc']:.6f}")
