"""What every trained method shares: its schedule, its optimizer, and one anomaly score for each test sample."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Self

import torch
import torch.distributed as dist
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.model_helpers import _restricted_classmethod
from torch import Tensor, nn

from deepsad_pl.batch import Batch
from deepsad_pl.checkpoints import DamagedError, require_whole
from deepsad_pl.errors import DeepSADError
from deepsad_pl.metrics import detection_metrics


def lr_at(epoch: int, lr: Sequence[float], epochs: Sequence[int]) -> float:
    """The learning rate of an epoch (from 0) in a schedule of phases; past the end, that of the last phase."""
    end = 0
    for rate, length in zip(lr, epochs, strict=True):
        end += length
        if epoch < end:
            return rate
    return lr[-1]


def global_mean(values: Tensor) -> Tensor:
    """The mean over the global batch of per-sample values, shape (B,), such that averaged gradients are right.

    On one process the plain mean. On several, DDP averages the ranks' gradients although their parts of the batch may
    differ in size: each rank contributes its sum times world size over the global count.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return values.mean()
    count = torch.tensor([float(len(values))], device=values.device)
    dist.all_reduce(count)
    return values.sum() * (dist.get_world_size() / count[0])


class TrainedMethod(LightningModule, ABC):
    """A method that is trained by the Trainer and scores samples one by one.

    Args:
        lr: learning rate of each phase of the schedule.
        epochs: length of each phase.
        weight_decay: lambda, >= 0.

    Attributes:
        encoder: phi.
        test_result: after ``trainer.test``: ``idx``, ``y`` and ``score`` of every test sample, ascending in ``idx``.
    """

    encoder: nn.Module
    # The method that torch.compile takes: terms, or what of it follows once chance has been drawn.
    graph = "terms"

    def __init__(self, *, lr: Sequence[float], epochs: Sequence[int], weight_decay: float) -> None:
        super().__init__()
        if len(lr) != len(epochs):
            raise ValueError(f"lr has {len(lr)} phases and epochs {len(epochs)}; give both the same number")
        self.lr, self.epochs, self.weight_decay = list(lr), list(epochs), weight_decay
        self.test_result: dict[str, Tensor] = {}
        self._tested: list[tuple[Tensor, Tensor, Tensor]] = []

    def __setattr__(self, name: str, value: Any) -> None:
        """As for every module, but at once where torch need not look whether it is a parameter."""
        if name == "_current_fx_name":
            # Lightning sets it some 45 times a step, through torch a twentieth of the step of a small MLP.
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @abstractmethod
    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        """The loss of each sample, shape (B,); the mean over the batch is minimized."""

    @abstractmethod
    def score(self, x: Tensor) -> Tensor:
        """The anomaly score of each sample, shape (B,); higher is more anomalous."""

    @abstractmethod
    def represent(self, x: Tensor) -> Tensor:
        """The representation phi(x), shape (B, d)."""

    @_restricted_classmethod
    def load_from_checkpoint(
        cls,  # noqa: N805
        checkpoint_path: str | Path | IO[bytes],
        *args: Any,
        **kwargs: Any,
    ) -> Self:
        """As Lightning's, but ready to score: in evaluation mode, and of a file that is as it was written.

        ``fit`` puts the module back into training mode.

        Args:
            checkpoint_path: a file, a URL or an open file.
            *args: as Lightning takes them.
            **kwargs: as Lightning takes them, such as ``weights_only=True`` and ``map_location``.

        Raises:
            DeepSADError: if the file's SHA-256 does not match its content.
        """
        if isinstance(checkpoint_path, str | Path) and Path(checkpoint_path).is_file():
            try:
                require_whole(Path(checkpoint_path).read_bytes())
            except DamagedError as error:
                raise DeepSADError(
                    f"the checkpoint {checkpoint_path} is damaged: {error}; copy it again or repeat its training"
                ) from error
        # Lightning leaves it in training mode, where batch norm scores a row by those beside it.
        return super().load_from_checkpoint(checkpoint_path, *args, **kwargs).eval()

    def on_fit_start(self) -> None:
        """Train in training mode what was loaded in evaluation mode: Lightning leaves the mode as it is."""
        if not self.training:
            self.train()

    def start_from(self, pretrained: "TrainedMethod") -> None:
        """Take over what pre-training has learned: every tensor of the encoder, or an error (appendix A).

        Args:
            pretrained: a trained module with an encoder of the same network.
        """
        self.encoder.load_state_dict(pretrained.encoder.state_dict(), strict=True)

    def forward(self, x: Tensor) -> Tensor:
        """The anomaly scores, shape (B,)."""
        return self.score(x)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch. The ground truth is not looked at."""
        x, semi_y, _, _ = batch
        return global_mean(self.terms(x, semi_y))

    def on_train_epoch_start(self) -> None:
        """Set the learning rate of this epoch's phase."""
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = lr_at(self.current_epoch, self.lr, self.epochs)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with its recommended defaults and the weight decay of the objective (appendix C)."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.Adam(trained, lr=self.lr[0], weight_decay=self.weight_decay, fused=True)

    def on_test_epoch_start(self) -> None:
        """Forget an earlier test."""
        self._tested.clear()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Score a batch."""
        x, _, y, idx = batch
        self._tested.append((idx, y, self.score(x)))

    def on_test_epoch_end(self) -> None:
        """Bring the scores of all ranks together, each sample once, and evaluate them."""
        parts = [torch.cat(column).cpu() for column in zip(*self._tested, strict=True)]
        self._tested.clear()
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            gathered: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(gathered, parts)
            parts = [torch.cat(column) for column in zip(*gathered, strict=True)]
        idx, y, score = parts
        # A distributed sampler other than ours may repeat samples to even out the ranks.
        first = torch.unique(idx, return_inverse=True)
        order = torch.full((len(first[0]),), len(idx)).scatter_reduce(0, first[1], torch.arange(len(idx)), "amin")
        self.test_result = {"idx": idx[order], "y": y[order], "score": score[order]}
        metrics = detection_metrics(self.test_result["score"], self.test_result["y"])
        self.log_dict({f"test/{name}": value for name, value in metrics.items()}, rank_zero_only=True)
