"""Hand-made rows of a study's results, and a reader of what a report wrote."""

import csv
import math
from pathlib import Path
from typing import Any

AXES = ["gamma_l"]


def row(column: str, value: float | None, auroc: float | None, **more: Any) -> dict[str, Any]:
    made = {
        "dataset": "mnist",
        "column": column,
        "variant": column,
        "normal_class": "0",
        "anomaly_class": None,
        "seed": 0,
        "borrowed": None,
        "protocol": None,
        "paper_n": 6 if more.get("anomaly_class") else 3,
        "lr_from_test": False,
        "auroc": math.nan if auroc is None else auroc,
        **({} if value is None else {"gamma_l": value}),
        **more,
    }
    repeated = value if made["anomaly_class"] else None
    return {
        "experiment": str([made[k] for k in ("variant", "normal_class", "anomaly_class", "seed")] + [repeated]),
        **made,
    }


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
