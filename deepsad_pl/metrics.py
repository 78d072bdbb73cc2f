"""What the test set says about a ranking: exact AUROC and average precision."""

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_average_precision


def detection_metrics(scores: Tensor, y: Tensor) -> dict[str, float]:
    """AUROC and average precision of anomaly scores, without binning.

    Args:
        scores: shape (n,), finite; higher is more anomalous.
        y: ground truth, shape (n,): 0 normal, 1 anomaly; both occur.

    Returns:
        ``{"auroc": ..., "average_precision": ...}``, both in [0, 1].

    Raises:
        ValueError: if a score is not finite or one of the two classes is missing.
    """
    if not torch.isfinite(scores).all():
        raise ValueError(f"{int((~torch.isfinite(scores)).sum())} of {len(scores)} anomaly scores are not finite")
    if not 0 < int(y.sum()) < len(y):
        raise ValueError("AUROC needs at least one normal and one anomalous test sample")
    # torchmetrics squeezes what lies outside [0, 1] through a sigmoid, which ties large distances: pass ranks instead.
    ranks = torch.unique(scores.double(), return_inverse=True)[1].double()
    ranks /= ranks.max().clamp(min=1)
    target = y.long()
    return {
        "auroc": float(binary_auroc(ranks, target, thresholds=None)),
        "average_precision": float(binary_average_precision(ranks, target, thresholds=None)),
    }
