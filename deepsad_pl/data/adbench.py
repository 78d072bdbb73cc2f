"""Download and read the tables of ADBench."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.adbench_tables import ADBENCH_FOLDER, AdbenchTable, name_problem, table_named
from deepsad_pl.data.download import fetch, noted_sum
from deepsad_pl.data.odds import counts_of, parse_table, read_table, warn_of_other_counts


def adbench_file(table: AdbenchTable, data_dir: Path) -> Path:
    """The path of a table's file, ``<data_dir>/adbench/<number>_<name>.npz``."""
    return data_dir / ADBENCH_FOLDER / table.file


def published_sum(table: AdbenchTable, data_dir: Path) -> str | None:
    """The SHA-256 of a table's published file, in hex.

    Four tables have no sum in the list. For these it is that of the file that was downloaded into this folder; None if
    no file was.
    """
    return table.sha256 or noted_sum(adbench_file(table, data_dir))


def load_adbench(name: str, data_dir: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Load the rows (N, D) and labels (N,) of a table, 1 = anomaly; its file is downloaded if it is missing.

    Args:
        name: name of the table, with or without its number, such as ``annthyroid``.
        data_dir: folder of the data and downloads.

    Raises:
        DeepSADError: if there is no such table, or its file cannot be downloaded or read.
    """
    table = table_named(name)
    if table is None:
        raise DeepSADError(name_problem("table", name) or "")
    path = fetch(table.url, adbench_file(table, data_dir), table.sha256, lambda part: _other_content(table, part))
    x, y = read_table(path)
    warn_of_other_counts(table.file, x, y, _counts(table), "ADBench")
    return x, y


def _counts(table: AdbenchTable) -> tuple[int, int, int]:
    return table.rows, table.columns, table.anomalies


def _other_content(table: AdbenchTable, path: Path) -> str | None:
    """How a file differs from the published one in shape or labels; None if it does not."""
    try:
        found = counts_of(*parse_table(path))
    except ValueError as error:
        return str(error)
    if found == _counts(table):
        return None
    told = "{} rows, {} columns and {} anomalies"
    return f"{told.format(*found)}, expected {told.format(*_counts(table))}"
