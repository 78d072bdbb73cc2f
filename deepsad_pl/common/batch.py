"""The batch tuple passed from data to methods, and the shorter forms that a custom loader may yield."""

from typing import Any, NamedTuple

from torch import Tensor

from deepsad_pl.common.errors import DeepSADError

# (x, semi_y, y, idx): input (B, ...); semi-label (B,): 0 unlabeled, +1 known normal, -1 known anomaly; ground truth
# (B,): 0 normal, 1 anomaly, never read in training; position in the training or test set (B,).
Batch = tuple[Tensor, Tensor, Tensor, Tensor]


class Unpacked(NamedTuple):
    """The parts of a :data:`Batch`; None for each part that the loader does not yield."""

    x: Tensor
    semi_y: Tensor | None = None
    y: Tensor | None = None
    idx: Tensor | None = None


def unpack(batch: Any) -> Unpacked:
    """Split a batch into its parts.

    Args:
        batch: ``x``, ``(x,)``, ``(x, y)``, ``(x, semi_y, y)`` or ``(x, semi_y, y, idx)``, as a tuple or a list.

    Raises:
        DeepSADError: if the batch has none of these forms.
    """
    parts = (batch,) if isinstance(batch, Tensor) else batch
    if not isinstance(parts, tuple | list) or not 1 <= len(parts) <= 4 or not _one_label_a_sample(*parts):
        raise DeepSADError(
            f"a batch is {_described(batch)}, but it must be x, (x,), (x, y), (x, semi_y, y) or (x, semi_y, y, idx): "
            "tensors, all of shape (B,) except x"
        )
    if len(parts) == 2:
        return Unpacked(parts[0], y=parts[1])
    return Unpacked(*parts)


def _one_label_a_sample(x: Any, *labels: Any) -> bool:
    return isinstance(x, Tensor) and all(isinstance(of, Tensor) and of.shape == x.shape[:1] for of in labels)


def _described(batch: Any) -> str:
    if isinstance(batch, Tensor):
        return f"a tensor of shape {tuple(batch.shape)}"
    if isinstance(batch, tuple | list):
        return f"a {type(batch).__name__} of {', '.join(map(_described, batch)) or 'nothing'}"
    return f"a {type(batch).__name__}"
