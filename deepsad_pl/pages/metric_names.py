"""The words for the metrics of a record."""

# The short name of each metric, and what it says.
METRIC_NAMES = {
    "auroc": ("AUROC", "share of pairs of a normal sample and an anomaly that the scores put in the right order"),
    "auroc_known": ("AUROC, known", "against anomalies of classes that had labels in training"),
    "auroc_novel": ("AUROC, novel", "against anomalies of classes that had none"),
    "average_precision": ("average precision", "mean precision at the anomalies; chance is their share of the samples"),
    "auroc_fpr_10": ("AUROC at FPR ≤ 10 %", "area where false alarms are rare, from 0.5 (chance) to 1"),
    "recall_fpr_1": ("recall at FPR ≤ 1 %", "share of the anomalies found at one false alarm in 100 normal samples"),
    "recall_fpr_5": ("recall at FPR ≤ 5 %", "share of the anomalies found at one false alarm in 20 normal samples"),
}
