"""Tables of cells for figures, drawn at random or made by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from report_rows import row

from deepsad_pl.report.cells import Cell, Ranking, make_cells

COLUMNS = (
    *("deep_sad", "ocsvm_raw", "ssad_raw", "classifier", "deep_svdd", "kde_raw", "iforest_raw", "knn_ratio_raw"),
    *("hsc", "cae", "a_method_of_my_own_with_a_very_long_name_indeed", "ssad_hybrid"),
)


def results(
    columns: Sequence[str],
    values: Sequence[float],
    *,
    seed: int = 0,
    units: int = 5,
    spread: float = 0.03,
    datasets: Sequence[str] = ("mnist",),
) -> pd.DataFrame:
    """Results of experiments: each column has a level of its own that rises with the axis.

    Args:
        columns: the columns.
        values: the values of gamma_l.
        seed: of the random numbers.
        units: number of normal classes.
        spread: how much columns and classes differ; 0 makes all values equal.
        datasets: names of the data sets.
    """
    random = np.random.default_rng(seed)
    rows = []
    for dataset in datasets:
        classes = random.normal(0, spread, units)
        for number, column in enumerate(columns):
            level = 0.95 - 5 * spread * (number == 3) + random.normal(0, spread)
            for place, value in enumerate(values):
                for unit in range(units):
                    noise = random.normal(0, spread / 5)
                    auroc = float(np.clip(level + 0.3 * spread * place + classes[unit] + noise, 0, 1))
                    known = (
                        {} if spread == 0 else {"auroc_known": min(1.0, auroc + spread), "auroc_novel": auroc - spread}
                    )
                    rows.append(row(column, value, auroc, normal_class=str(unit), dataset=dataset) | known)
                    rows[-1]["experiment"] = f"{dataset} {column} {value} {unit}"
    return pd.DataFrame(rows)


def cells_of(frame: pd.DataFrame, axes: Sequence[str], **more: Any) -> tuple[list[Cell], list[Ranking]]:
    """The cells and rankings of results."""
    return make_cells(frame, axes, with_paper=True, **more)
