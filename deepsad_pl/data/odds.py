"""Download, read and check the six classic benchmark sets of the paper's Table 1 (from ODDS)."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.adbench_tables import ADBENCH_URL
from deepsad_pl.data.download import fetch

log = logging.getLogger(__name__)

ODDS_FOLDER = "odds"

_PYOD = "https://raw.githubusercontent.com/yzhao062/pyod/34f7996effac700a5166d882d5e94c6e6078fae3/notebooks/data/"


@dataclass(frozen=True)
class OddsFile:
    """A data file at a fixed commit, with the numbers that Table 1 gives for it."""

    file: str
    url: str
    sha256: str
    rows: int
    columns: int
    outliers: int


def _pyod(name: str, sha256: str, rows: int, columns: int, outliers: int) -> OddsFile:
    return OddsFile(f"{name}.mat", f"{_PYOD}{name}.mat", sha256, rows, columns, outliers)


ODDS_FILES = {
    "arrhythmia": _pyod("arrhythmia", "e4d47e499591ae31e5d7f0cd983367092353eac240f48e14c9b36457edb3460d", 452, 274, 66),
    "cardio": _pyod("cardio", "5e568b6a73711012c481fa6cc984ab9c68e9a4fa44d6aeb3b43efa381c3f695b", 1831, 21, 176),
    "satellite": _pyod("satellite", "6feac3112b9c14e1c3e60afc437f2f3d29dc1000119c9f950c628078778d6aa0", 6435, 36, 2036),
    "satimage-2": _pyod("satimage-2", "95c37a07cea2cb201f6900d14f521510e10b6b2f0074c06ac46d3157440ec67b", 5803, 36, 71),
    "shuttle": _pyod("shuttle", "b6e396c92354d5dcf5036901e36dc58e2913f2d1a5e138c35a2bedf9c69db899", 49097, 9, 3511),
    "thyroid": OddsFile(
        "thyroid.npz",
        f"{ADBENCH_URL}Classical/38_thyroid.npz",
        "8de161b3f235b7647bb0b39a836d983ff61d67bf234edac461da2d71e889cb87",
        3772,
        6,
        93,
    ),
}


def read_table(path: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Read ``X`` (N, D) and ``y`` (N,), where 1 = outlier, from a ``.mat`` or ``.npz`` file.

    Raises:
        DeepSADError: if the file cannot be read, lacks a key, or does not hold finite numbers with labels 0 and 1.
    """
    try:
        return parse_table(path)
    except ValueError as error:
        raise DeepSADError(f"{path} {error}; replace it, or remove it to download it again") from error


def parse_table(path: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """As :func:`read_table`, for a file that is not the user's.

    Raises:
        ValueError: what is wrong, to be read after the name of the file.
    """
    from scipy.io import loadmat

    try:
        if path.suffix == ".mat":
            content: dict[str, Any] = loadmat(str(path))
        else:
            with np.load(path, allow_pickle=False) as archive:
                content = {key: archive[key] for key in archive.files}
        x, y = content["X"], content["y"]
    except KeyError as error:
        raise ValueError(f"has no key {error}, but X (N, D) and y (N) are needed") from error
    except Exception as error:  # each reader raises its own exception types on damaged files
        raise ValueError(f"cannot be read ({type(error).__name__}: {error})") from error
    if (problem := _table_problem(x, y)) is not None:
        raise ValueError(
            f"holds {problem}, but X with N rows of D finite real numbers and y with N labels 0 or 1 are needed"
        )
    return np.asarray(x, dtype=np.float64), y.ravel().astype(np.int64)


def _table_problem(x: Any, y: Any) -> str | None:
    """Why ``x`` and ``y`` are not a table with labels; None if they are."""
    for name, values in (("X", x), ("y", y)):
        if not isinstance(values, np.ndarray):
            return f"{name} as a {type(values).__name__}"  # such as a sparse matrix
        if values.dtype.kind not in "biuf":
            return f"{name} of type {values.dtype}"
    if x.ndim != 2 or 0 in x.shape or not y.size == max(y.shape, default=1) == len(x):
        return f"X of shape {x.shape} and y of shape {y.shape}"
    with np.errstate(over="ignore"):
        infinite = ~np.isfinite(x.astype(np.float64, copy=False)).all(axis=0)
    if infinite.any():
        return f"NaN or infinite values in column {np.flatnonzero(infinite)[0]} of X, counted from 0"
    if not np.isin(y, (0, 1)).all():
        return "values other than 0 and 1 in y"
    return None


def odds_file(name: str, data_dir: Path) -> Path | None:
    """The file of a data set, ``<data_dir>/odds/<name>.mat`` or ``.npz``; None if neither exists."""
    paths = (data_dir / ODDS_FOLDER / f"{name}{suffix}" for suffix in (".mat", ".npz"))
    return next((path for path in paths if path.exists()), None)


def load_odds(name: str, data_dir: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Load the rows and labels of a data set; download its file unless it exists.

    Raises:
        DeepSADError: if the file cannot be downloaded or read.
    """
    known = ODDS_FILES[name]
    path = odds_file(name, data_dir) or fetch(known.url, data_dir / ODDS_FOLDER / known.file, known.sha256)
    x, y = read_table(path)
    warn_of_other_counts(name, x, y, (known.rows, known.columns, known.outliers), "the paper's Table 1")
    return x, y


def counts_of(x: npt.NDArray[np.float64], y: npt.NDArray[np.int64]) -> tuple[int, int, int]:
    """The numbers of rows, columns and outliers of a table."""
    return *x.shape, int(y.sum())


def warn_of_other_counts(
    name: str,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.int64],
    expected: tuple[int, int, int],
    source: str,
) -> None:
    """Log a warning if a table does not have the rows, columns and outliers that it should have.

    Args:
        name: of the table, for the message.
        x: its rows, shape (N, D).
        y: their labels, shape (N,).
        expected: rows, columns and outliers.
        source: who says so, for the message.
    """
    if (found := counts_of(x, y)) != expected:
        told = (name, *found, source, *expected)
        log.warning("%s in this file has %d rows, %d columns and %d outliers, but in %s %d, %d and %d", *told)
