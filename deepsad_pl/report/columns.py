"""The columns of the paper's tables, in its order, with its headings; and how the rows are called."""

from collections.abc import Iterable, Mapping
from typing import Any

HEADINGS = {
    "ocsvm_raw": "OC-SVM Raw",
    "ocsvm_hybrid": "OC-SVM Hybrid",
    "iforest_raw": "IF Raw",
    "iforest_hybrid": "IF Hybrid",
    "kde_raw": "KDE Raw",
    "kde_hybrid": "KDE Hybrid",
    "cae": "CAE",
    "deep_svdd": "Deep SVDD",
    "ssad_raw": "SSAD Raw",
    "ssad_hybrid": "SSAD Hybrid",
    "ss_dgm": "SS-DGM",
    "deep_sad": "Deep SAD",
    "classifier": "Supervised Classifier",
}


def heading(column: str) -> str:
    """The heading of a column; somebody's own method has its name."""
    return HEADINGS.get(column, column)


def in_order(columns: Iterable[str]) -> list[str]:
    """Columns in the paper's order, those that it does not have after them."""
    found = list(dict.fromkeys(columns))
    return [*(c for c in HEADINGS if c in found), *(c for c in found if c not in HEADINGS)]


def value_text(value: Any) -> str:
    """``0.05``, ``100``, a name as it is; ``none`` for None."""
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def describe(row: Mapping[str, Any]) -> str:
    """``gamma_l = 0.05``; nothing where there is no axis."""
    return ", ".join(f"{axis} = {value_text(value)}" for axis, value in row.items())
