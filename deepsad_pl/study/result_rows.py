"""Finished experiments as rows of text, one each, from which a study goes on and is reported without run folders."""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import write_atomic
from deepsad_pl.common.records import CLASSES, METRICS
from deepsad_pl.experiment.results_version import RESULTS_VERSION, version_of

# One experiment: the text of each column, empty where it does not apply.
Row = Mapping[str, str]

_OF_SCENARIO, _OF_METHOD = ("gamma_l", "gamma_p", "k_l"), ("eta", "nu")
COLUMNS = (
    *("dataset", "method", "seed", "normal_class", "anomaly_class"),
    *_OF_SCENARIO,
    *_OF_METHOD,
    *("hash", "version"),
    *METRICS,
    *("protocol", "seconds", "commit", "machine", "test_normal", "test_anomalous", CLASSES),
)
# Without these, a row says nothing; the other columns may be missing from a file.
_NEEDED = ("dataset", "method", "hash", "auroc")


def row_of(record: Mapping[str, Any], *, auroc: float, commit: str, machine: str) -> dict[str, str]:
    """Make the row of a finished experiment.

    Args:
        record: its record.
        auroc: its AUROC in double precision, see :func:`deepsad_pl.study.results.exact_auroc`.
        commit: the code that it was run with.
        machine: the machine that it was run on.
    """
    scenario, counts = record.get("scenario", {}), record["counts"]
    method, classes = record["identity"]["method"], record.get(CLASSES)
    return {
        "dataset": record["dataset"],
        "method": record["method"],
        "seed": _text(record["seed"]),
        "normal_class": "+".join(scenario.get("normal_class", ())),
        "anomaly_class": "+".join(scenario.get("anomaly_class", ())),
        **{key: _text(scenario.get(key)) for key in _OF_SCENARIO},
        **{key: _text(method.get(key)) for key in _OF_METHOD},
        "hash": record["hash"],
        "version": _text(version_of(record)),
        **{name: _text(record.get(name)) for name in METRICS},
        "auroc": _text(auroc),
        "protocol": record.get("selection", {}).get("protocol") or "",
        "seconds": _text(round(sum(record["seconds"].values()), 3)),
        "commit": commit,
        "machine": machine,
        **{key: _text(counts.get(key)) for key in ("test_normal", "test_anomalous")},
        CLASSES: "" if classes is None else _classes_text(classes),
    }


def record_of_row(row: Row) -> dict[str, Any]:
    """The part of a record that a report needs; the inverse of :func:`row_of`, without what a row does not say.

    Args:
        row: a row as :func:`read_rows` returns it.
    """
    counts = {key: int(row[key]) for key in ("test_normal", "test_anomalous") if row[key]}
    classes = json.loads(row[CLASSES]) if row[CLASSES] else {}
    each = {name: {"test": size, "auroc": value} for name, (size, value) in classes.items()}
    return {
        "dataset": row["dataset"],
        "method": row["method"],
        "hash": row["hash"],
        **{name: float(row[name]) if row[name] else None for name in METRICS},
        "seconds": {"all": float(row["seconds"] or 0)},
        "counts": counts,
        **({"selection": {"protocol": row["protocol"]}} if row["protocol"] else {}),
        **({CLASSES: each} if each and "test_normal" in counts else {}),
    }


def is_current(row: Row, hashes: Iterable[str]) -> bool:
    """Whether a row is the result that today's code has for one of the planned experiments.

    A row without all metrics, such as one of an earlier release, is not.

    Args:
        row: a row.
        hashes: hashes of the identities of the planned experiments.
    """
    of_today = (row["version"] or "1") == str(RESULTS_VERSION) and row["hash"] in hashes
    # Which metrics are blank depends on the experiment, but these two have a value in every one.
    return of_today and bool(row["auroc"]) and bool(row["recall_fpr_5"])


def merged(rows: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """The rows without duplicates in a stable order; of rows with the same hash, the last one stays."""
    by_hash = {row["hash"]: row for row in (*rows, *new)}
    return sorted(by_hash.values(), key=_place)


def read_rows(path: Path) -> list[Row]:
    """Read a file of rows; an empty list if there is none. Columns that it lacks are empty, other columns are ignored.

    Raises:
        DeepSADError: if it cannot be read, or a row is no result.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise DeepSADError(f"the results {path} cannot be read ({error}); choose another study.results") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        columns = reader.fieldnames or ()
    except csv.Error as error:
        raise DeepSADError(f"the results {path} are no CSV file ({error}); choose another study.results") from error
    if missing := [name for name in _NEEDED if name not in columns]:
        raise DeepSADError(
            f"the results {path} have no column {', '.join(missing)}; give a file that study.results has written, or "
            "one that does not exist yet"
        )
    rows: list[Row] = []
    for number, found in enumerate(_parsed(reader, path), start=2):
        row = {name: found.get(name) or "" for name in COLUMNS}
        if (problem := next(_problems(row), None)) is not None:
            raise DeepSADError(f"line {number} of the results {path}: {problem}; mend or remove the line")
        rows.append(row)
    return rows


def _parsed(reader: Iterable[dict[str, str]], path: Path) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise DeepSADError(f"the results {path} are no CSV file ({error}); choose another study.results") from error


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a file of rows atomically; its folder is created if missing.

    Raises:
        DeepSADError: if it cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.getvalue())
    except OSError as error:
        raise DeepSADError(
            f"the results {path} cannot be written ({error}); choose a file in a writable folder"
        ) from error


def _problems(row: Row) -> Iterator[str]:
    for name in (*METRICS, "seconds", "test_normal", "test_anomalous"):
        highest = 1.0 if name in METRICS else math.inf
        if row[name] and not (_is_number(row[name]) and 0 <= float(row[name]) <= highest):
            yield f"{name} is {row[name]!r}, which is not a number in [0, {highest:g}]"
    for name in ("test_normal", "test_anomalous"):
        if row[name] and not row[name].isdecimal():
            yield f"{name} is {row[name]!r}, which is not a whole number"
    if not row["hash"]:
        yield "it has no hash"
    try:
        classes = json.loads(row[CLASSES] or "{}")
        fits = isinstance(classes, dict) and all(_is_class(entry) for entry in classes.values())
    except (ValueError, RecursionError):
        fits = False
    if not fits:
        yield f"{CLASSES} is {row[CLASSES]!r}, which are not a number of samples and an AUROC for each class"


def _is_class(entry: Any) -> bool:
    """Whether a class's entry is a number of samples and an AUROC."""
    return isinstance(entry, list) and [type(one) in (int, float) for one in entry] == [True, True]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _text(value: Any) -> str:
    return "" if value is None else repr(float(value)) if isinstance(value, float) else str(value)


def _classes_text(classes: Mapping[str, Mapping[str, Any]]) -> str:
    parts = {name: [one["test"], one["auroc"]] for name, one in classes.items()}
    return json.dumps(parts, separators=(",", ":"), ensure_ascii=False)


def _place(row: Row) -> tuple[Any, ...]:
    """The place of a row in a file: by setting, then by class and seed."""
    numbers = [float(row[key]) if _is_number(row[key]) else -1.0 for key in (*_OF_SCENARIO, *_OF_METHOD, "seed")]
    return row["dataset"], row["method"], *numbers, row["normal_class"], row["anomaly_class"], row["hash"]
