"""The columns of a study's results.csv, beside those of its axes and of metrics of one's own."""

from deepsad_pl.common.records import METRICS

COLUMNS = (
    "dataset",
    "column",
    "variant",
    "normal_class",
    "anomaly_class",
    "seed",
    "experiment",
    "auroc",
    "borrowed",
    "protocol",
    "paper_n",
    "population",
    "drawn_from",
    "seed_draws",
    "as_paper",
    "lr_from_test",
    "setting_from_test",
    "finished",
    *(name for name in METRICS if name != "auroc"),
)

# Names that no axis may have: the columns of the results, of those with a row for each known class, and of a report.
NOT_AN_AXIS = frozenset((*COLUMNS, "known", "value"))
