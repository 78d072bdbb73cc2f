"""Results of a run that never ran, with hostile names, and the samples of its page."""

from dataclasses import replace
from typing import Any

import numpy as np

from deepsad_pl.experiment.class_metrics import metrics_of
from deepsad_pl.pages.run_page import RunResults
from deepsad_pl.pages.shown_samples import Card, Group
from deepsad_pl.pages.tables import Cell, Table, number_cell
from deepsad_pl.pages.thumbnails import heat_map, thumbnail

# Each of these would run a script or load something if it were not escaped.
HOSTILE = "<script>document.title='hacked'</script>"
IMAGE = '"><img src=x onerror="document.title=\'hacked\'">'
CLASSES = ("normal", HOSTILE, IMAGE, "plain & simple")


def made_results(**changes: Any) -> RunResults:
    """Results on 400 test samples of four classes, of which the second is known."""
    generator = np.random.default_rng(0)
    label = generator.integers(4, size=400)
    score, y = generator.gamma(1 + label, size=400), (label > 0).astype(int)
    counts = {"train": 100, "unlabeled": 90, "pollution": 5, "labeled_normals": 0, "labeled_anomalies": 10}
    test = {"test": 400, "test_normal": int((y == 0).sum()), "test_anomalous": int(y.sum())}
    record = {
        **metrics_of(score, y, label, CLASSES, [HOSTILE]),
        **{"dataset": IMAGE, "method": "deep_sad", "seed": 0, "hash": "12345678"},
        "scenario": {"normal_class": ["normal"], "anomaly_class": [HOSTILE]},
        "counts": counts | test,
        "seconds": {"pretrain": 1.0, "fit": 2.0, "score": 0.1},
        "spread": {"pretrain": {"initial": 1.0, "final": 2.0}, "fit": {"initial": 2.0, "final": 1e-9}},
        "epochs": {"pretrain": 30, "fit": 20},
        "reused": {"pretrain": {"entry": "a"}},
        "trainer": {"device": "cpu", "threads": 2},
        "threshold": {"kind": "conformal", "alpha": 0.05, "value": 4.0, "rows": 20, "test": {"recall": 0.5}},
        "command": f"python train.py 'dataset={HOSTILE}'",
        "versions": {"deepsad_pl": "0.1.0"},
    }
    losses = {"pretrain": np.geomspace(10, 0.01, 30).tolist(), "fit": [np.nan, *np.linspace(3, 2, 19)]}
    made = RunResults(
        record,
        y,
        score,
        [CLASSES[one] for one in label],
        known=[HOSTILE],
        losses=losses,
        own_metrics={HOSTILE: -3.5},
        collapsed=["fit"],
    )
    return replace(made, **changes)


def made_groups() -> list[Group]:
    """A group of images and a table, both with hostile names."""
    generator = np.random.default_rng(0)
    cards = [
        Card(thumbnail(generator.random((1, 8, 8))), heat_map(generator.normal(size=(8, 8))), IMAGE, HOSTILE, "1.5")
        for _ in range(8)
    ]
    scores = [3.0, 20.0, None, 100.0]
    rows = [[Cell(f"{IMAGE} {place}"), number_cell(score, ".4g"), Cell("x +1")] for place, score in enumerate(scores)]
    table = Table("Rows", ["sample", "score", HOSTILE], rows, frozenset({1}), has_filter=True)
    return [Group("Images", "The first ones.", cards), Group("Rows", "The others.", table=table)]
