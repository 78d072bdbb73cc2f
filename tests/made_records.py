"""Records of experiments that were never run: with today's metrics, but without the class column and a checksum."""

import csv
import json
from typing import Any

from deepsad_pl.common.metrics import ranking_metrics
from deepsad_pl.common.records import METRICS, identity_hash
from deepsad_pl.experiment.plan import Plan

# Two normal and three anomalous test samples; an anomaly beats both normal ones, one ties with the higher, one is last.
Y = (0, 1, 1, 0, 1)
SCORE = (0.5, 2.0, 1.0, 1.0, 0.25)
AUROC = (2 + 1.5 + 0) / 6


def made_record(plan: Plan, **changed: Any) -> dict[str, Any]:
    """The record of a plan."""
    return {
        **dict.fromkeys(METRICS),
        **ranking_metrics(SCORE, Y),
        "auroc": AUROC,
        "average_precision": 0.75,
        "dataset": plan.dataset.name,
        "method": plan.method.name,
        "seed": plan.seed,
        "hash": identity_hash(plan.identity),
        "identity": plan.identity,
        "counts": {
            **{"train": 10, "unlabeled": 9, "pollution": 0, "labeled_normals": 0, "labeled_anomalies": 1},
            **{"test": 5, "test_normal": 2, "test_anomalous": 3},
        },
        "seconds": {"pretrain": 0.0, "fit": 1.0, "score": 0.5},
        "spread": {},
        "command": "a test",
        **changed,
    }


def write_finished(plan: Plan, **changed: Any) -> dict[str, Any]:
    """Make an experiment count as finished, and return its record."""
    plan.run_dir.mkdir(parents=True, exist_ok=True)
    record = made_record(plan, **changed)
    (plan.run_dir / "metrics.json").write_text(json.dumps(record))
    with (plan.run_dir / "scores.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [("index", "y", "score"), *zip(range(5), Y, SCORE, strict=True)]
        )
    return record
