"""The tables of ADBench by name: their sizes and checksums, and the network for their number of columns.

Imports neither numpy nor torch, since commands that only check or plan import it.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from deepsad_pl.common.suggestions import suggested

# The repository at a fixed commit, so that its files do not change.
ADBENCH_URL = (
    "https://raw.githubusercontent.com/Minqi824/ADBench/3dac8221081e190f157d78e93bfa8867f90d0965/adbench/datasets/"
)
ADBENCH_FOLDER = "adbench"
_FEATURES = "MVTec-AD_"

# The paper's networks by number of columns: thyroid has 6, satellite 36 and arrhythmia 274. The first entry keeps the
# bottleneck narrower than the table: three of ADBench's tables have 3 columns.
_UNITS = ((4, (32, 16, 2)), (8, (32, 16, 4)), (99, (32, 16, 8)))
_UNITS_OF_WIDE = (128, 64, 32)


@dataclass(frozen=True)
class AdbenchTable:
    """A table of ADBench.

    Attributes:
        stem: name of its file without ``.npz``, such as ``2_annthyroid``.
        rows: number of rows.
        columns: number of columns.
        anomalies: number of anomalies.
        sha256: SHA-256 of the file, in hex; None if it is not known.
    """

    stem: str
    rows: int
    columns: int
    anomalies: int
    sha256: str | None

    @property
    def name(self) -> str:
        """The name without the number."""
        return self.stem if self.stem.startswith(_FEATURES) else self.stem.partition("_")[2]

    @property
    def is_classic(self) -> bool:
        """Whether it is also one of the paper's tables, on which the default learning rates were chosen."""
        return self.name in ("cardio", "satellite", "satimage-2", "shuttle", "thyroid")

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.stem}.npz"

    @property
    def url(self) -> str:
        """Where it is published."""
        return f"{ADBENCH_URL}{'CV_by_ResNet18' if self.stem.startswith(_FEATURES) else 'Classical'}/{self.file}"


@cache
def adbench_tables() -> Mapping[str, AdbenchTable]:
    """The 47 tables and the features of MVTec AD's 15 categories, by name without number.

    >>> adbench_tables()["annthyroid"].stem
    '2_annthyroid'
    """
    text = files("deepsad_pl.data").joinpath("adbench_tables.csv").read_text(encoding="utf-8")
    found = (
        AdbenchTable(row["file"], int(row["rows"]), int(row["columns"]), int(row["anomalies"]), row["sha256"] or None)
        for row in csv.DictReader(text.splitlines())
    )
    return MappingProxyType({table.name: table for table in found})


def table_named(name: object) -> AdbenchTable | None:
    """The table with a name, with or without its number (``2_annthyroid``, ``annthyroid``); None if there is none."""
    tables = adbench_tables()
    if not isinstance(name, str):
        return None
    return tables.get(name) or next((table for table in tables.values() if table.stem == name), None)


def name_problem(key: str, name: object) -> str | None:
    """The problem with a name that no table has, as a sentence; None if a table has it.

    Args:
        key: the setting, for the message.
        name: its value.
    """
    if table_named(name) is not None:
        return None
    stems = [table.stem for table in adbench_tables().values()]
    near = suggested(str(name), [*adbench_tables(), *stems])
    if not near and (around := [one for one in adbench_tables() if len(str(name)) > 2 and str(name) in one]):
        near = f"did you mean {' or '.join(around)}?"
    numbered = ", ".join(stem for stem in stems if not stem.startswith(_FEATURES))
    categories = ", ".join(stem.removeprefix(_FEATURES) for stem in stems if stem.startswith(_FEATURES))
    all_are = f"give one of {numbered}, with or without the number, or {_FEATURES} and one of {categories}"
    return f"{key} is {name!r}, which is not a table of ADBench; {near or all_are}"


def table_problems(dataset: Mapping[str, Any]) -> Iterator[str]:
    """Yield a problem if ``dataset.table`` is not a table of ADBench."""
    if (problem := name_problem("dataset.table", dataset.get("table"))) is not None:
        yield problem


def units_for(columns: int) -> list[int]:
    """The layer widths of the MLP for a table.

    >>> units_for(6)
    [32, 16, 4]

    Args:
        columns: number of columns, >= 1.
    """
    return list(next((units for most, units in _UNITS if columns <= most), _UNITS_OF_WIDE))
