"""The one tuple that passes from data to methods."""

from torch import Tensor

# (x, semi_y, y, idx): input (B, ...); semi-label (B,): 0 unlabeled, +1 known normal, -1 known anomaly; ground truth
# (B,): 0 normal, 1 anomaly, never read in training; position in the training or test set (B,).
Batch = tuple[Tensor, Tensor, Tensor, Tensor]
