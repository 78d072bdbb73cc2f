"""Base class of all trained methods: learning rate schedule, optimizer, and one anomaly score per test sample."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any, Literal, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from deepsad_pl.common.batch import unpack
from deepsad_pl.common.checkpoints import DamagedError, require_whole
from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.lightning_api import LightningModule, restricted_classmethod
from deepsad_pl.common.metrics import detection_metrics, metrics_where_known
from deepsad_pl.common.ranges import Length, NonNegative, Positive, require
from deepsad_pl.methods.hyperparameters import constructor_frame, plain
from deepsad_pl.methods.losses import at_least_float32

log = logging.getLogger(__name__)

# Marks an optimizer whose learning rate is set in each epoch.
_FOLLOWS = "follows_lr_and_epochs"


def lr_at(epoch: int, lr: Sequence[Positive], epochs: Sequence[Length]) -> float:
    """The learning rate of an epoch (counted from 0) in a schedule of phases; after the last phase its rate is kept."""
    end = 0
    for rate, length in zip(lr, epochs, strict=True):
        end += length
        if epoch < end:
            return rate
    return lr[-1]


def global_mean(values: Tensor) -> Tensor:
    """The mean of per-sample values, shape (B,), scaled so that DDP's gradients are those of the global batch's mean.

    On one process it is the plain mean. On several, DDP averages the gradients of all ranks with equal weights,
    although the ranks' parts of the batch may differ in size. Each rank therefore returns its sum, multiplied by the
    world size and divided by the global count.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return values.mean()
    count = torch.tensor([float(len(values))], device=values.device)
    dist.all_reduce(count)
    return values.sum() * (dist.get_world_size() / count[0])


# Batches are scored in multiples of this number of rows: matrix products round the rows of an incomplete block
# differently, by CPU up to 16 of them, and a sample's score must not depend on the other samples.
_ROWS = 16


def require_one_each(module: nn.Module, name: str, values: Tensor, count: int) -> None:
    """Check that a module's method returned one number for each sample.

    Raises:
        DeepSADError: if it returned another shape.
    """
    if values.shape != (count,):
        raise DeepSADError(
            f"{type(module).__name__}.{name} returned shape {tuple(values.shape)} for {count} samples; return "
            f"({count},), one number for each"
        )


class TrainedMethod(LightningModule, ABC):
    """Base class of methods that a Trainer trains and that give every sample an anomaly score.

    Batches are ``(x, semi_y, y, idx)``, as an :class:`~deepsad_pl.data.datamodule.AnomalyDataModule` yields them, or
    any other form that :func:`~deepsad_pl.common.batch.unpack` accepts:

    - ``fit`` logs ``train_loss``, the mean over an epoch. A method that uses semi-labels refuses batches without them;
      for other methods ``x`` or ``(x, y)`` is enough. The ground truth y is never used.
    - ``test`` and ``validate`` take ``(x, y)`` and log ``test/auroc`` and ``test/average_precision``, or ``val/...``.
    - ``predict`` returns the scores of each batch, shape (B,).

    Args:
        lr: learning rate of each phase of the schedule.
        epochs: number of epochs of each phase.
        weight_decay: lambda, >= 0.

    Attributes:
        encoder: phi.
        test_result: ``idx``, ``y`` and ``score`` of every test sample, sorted by ``idx``; filled by ``trainer.test``.
    """

    encoder: nn.Module
    # Whether a test needs known normal samples and known anomalies; otherwise it may end with scores alone.
    needs_truth = True
    # Whether terms() depends on the semi-labels, so that training batches must contain them.
    uses_semi_labels = True
    # How training batches are drawn: "shuffled", each sample once in an epoch; "balanced", half labeled anomalies; or
    # "pairs" or "triplets", x of shape (B, 2, ...) or (B, 3, ...) and semi_y minus the number of labeled anomalies.
    sampling: Literal["shuffled", "balanced", "pairs", "triplets"] = "shuffled"
    # Number of training samples of each kind with which a sample is paired to score it.
    partners = 0
    # Name of the method that torch.compile compiles: terms, or the part of it that runs after the noise is drawn.
    graph = "terms"

    def __init__(self, *, lr: Sequence[Positive], epochs: Sequence[Length], weight_decay: NonNegative) -> None:
        super().__init__()
        require(TrainedMethod.__init__, lr=lr, epochs=epochs, weight_decay=weight_decay)
        if len(lr) != len(epochs):
            raise ValueError(
                f"lr has {counted(len(lr), 'phase')}, but epochs has {len(epochs)}; both need the same number"
            )
        # numpy numbers would end up in the optimizer's state, and its checkpoint would not load with weights_only.
        self.lr, self.epochs = [float(rate) for rate in lr], [int(length) for length in epochs]
        self.weight_decay = float(weight_decay)
        self.test_result: dict[str, Tensor] = {}
        self._scored: list[tuple[Tensor | None, Tensor, Tensor]] = []

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; skip torch's check for parameters for the one that Lightning sets very often."""
        if name == "_current_fx_name":
            # Lightning sets it about 45 times per step; with torch's check this is 5 % of a small MLP's step time.
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @abstractmethod
    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        """The loss of each sample, shape (B,); the mean over the batch is minimized."""

    @abstractmethod
    def score(self, x: Tensor) -> Tensor:
        """The anomaly score of each sample, shape (B,); higher is more anomalous."""

    def represent(self, x: Tensor) -> Tensor:
        """The representation phi(x), shape (B, d): the encoder's output, unless a method overrides this."""
        return at_least_float32(self.encoder(x))

    def save_hyperparameters(
        self,
        *args: Any,
        ignore: Sequence[str] | str | None = None,
        frame: FrameType | None = None,
        logger: bool = True,
    ) -> None:
        """Like Lightning's method, but save only the arguments of the outermost constructor, without numpy types.

        Lightning merges the arguments of all constructors. A subclass that passes a fixed value to its parent would
        then get that argument twice when it is loaded.

        Args:
            *args: as in Lightning.
            ignore: as in Lightning.
            frame: as in Lightning.
            logger: as in Lightning.
        """
        frame = frame or constructor_frame(self)
        super().save_hyperparameters(*args, ignore=ignore, frame=frame, logger=logger)
        for name, value in self.hparams.items():
            self.hparams[name] = plain(value)

    @restricted_classmethod
    def load_from_checkpoint(
        cls,  # noqa: N805
        checkpoint_path: str | Path | IO[bytes],
        *args: Any,
        **kwargs: Any,
    ) -> Self:
        """Like Lightning's method, but check the file's SHA-256 and return the module in evaluation mode.

        ``fit`` puts the module back into training mode.

        Args:
            checkpoint_path: a path, a URL or an open file; only a local path is checked.
            *args: as in Lightning.
            **kwargs: as in Lightning, such as ``weights_only=True`` and ``map_location``.

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
        # Lightning leaves it in training mode, where batch norm makes a row's score depend on the rest of its batch.
        return super().load_from_checkpoint(checkpoint_path, *args, **kwargs).eval()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to resume training from a checkpoint that holds only the module.

        Raises:
            DeepSADError: if ``trainer.fit`` is given a checkpoint without the optimizer's state.
        """
        fits = self._trainer is not None and self._trainer.state.fn == "fit"
        if fits and "optimizer_states" not in checkpoint:
            name = type(self).__name__
            raise DeepSADError(
                "the checkpoint holds no optimizer state, which a finished run does not keep, so fit cannot resume "
                f"from it; to train further, fit {name}.load_from_checkpoint(path, weights_only=True) without ckpt_path"
            )

    def on_fit_start(self) -> None:
        """Switch to training mode, take partners that are not set from the data module, and warn of other batches."""
        if not self.training:
            # Lightning does not do this for a module that was loaded in evaluation mode.
            self.train()
        if self._trainer is not None:  # a stack has one for all of its replicas
            self._suit_trainer(self._trainer)

    def _suit_trainer(self, trainer: Any) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        sampling = getattr(data, "sampling", self.sampling)
        if self.lacks_partners and sampling == self.sampling and hasattr(data, "partners"):
            self.set_partners(*map(torch.from_numpy, data.partners(self.partners)))
        if self.sampling != "shuffled" and sampling != self.sampling:
            log.warning(
                "%s is meant for %s batches, but those of the data module are %s; use AnomalyDataModule(..., "
                'sampling="%s")',
                *(type(self).__name__, self.sampling, sampling, self.sampling),
            )

    def start_from(self, pretrained: "TrainedMethod") -> None:
        """Copy every tensor of a pre-trained module's encoder, or raise an error (appendix A).

        Args:
            pretrained: a trained module with an encoder of the same network.
        """
        self.encoder.load_state_dict(pretrained.encoder.state_dict(), strict=True)

    def adapted(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The state of a method of the same family as a state of this one, for a warm start.

        Args:
            state: tensors by name.
        """
        return dict(state)

    def start_noise(self, epoch: int, rank: int = 0) -> None:
        """Start the noise stream of an epoch; methods that draw noise override this.

        Args:
            epoch: number of the epoch, counted from 0.
            rank: rank of this process.
        """
        return

    @property
    def lacks_partners(self) -> bool:
        """Whether scores need partners that are not set."""
        return False

    def set_partners(self, others: Tensor, anomalies: Tensor) -> None:
        """Set the training samples with which a sample is paired to score it; for methods with ``partners`` above 0.

        Args:
            others: samples that are no labeled anomalies, shape (``partners``, ...).
            anomalies: labeled anomalies, of the same shape.
        """
        raise NotImplementedError(f"{type(self).__name__} pairs no samples")

    def draw(self, size: int) -> tuple[Tensor, ...]:
        """Draw the noise that the terms of a batch need, from the method's own random stream.

        A method that draws its noise here, once per batch, can be trained in a stack, where many replicas are computed
        together but each draws from its own stream.

        Args:
            size: B, the batch size.

        Returns:
            Tensors whose shapes depend only on the size; an empty tuple unless a method overrides this.
        """
        return ()

    def checked_score(self, x: Tensor) -> Tensor:
        """The anomaly scores, shape (B,); that of a sample does not depend on how many others there are.

        Raises:
            DeepSADError: if ``score`` returns another shape.
        """
        lacking = -len(x) % _ROWS
        padded = torch.cat([x, x[-1:].expand(lacking, *x.shape[1:])]) if lacking else x
        score = self.score(padded)
        require_one_each(self, "score", score, len(padded))
        return score[: len(x)]

    def forward(self, x: Tensor) -> Tensor:
        """The anomaly scores, shape (B,)."""
        return self.score(x)

    def training_part(self, batch: Any) -> tuple[Tensor, Tensor]:
        """The ``x`` and ``semi_y`` of a batch; ``semi_y`` is 0 if the batch has none and the method does not use it.

        Raises:
            DeepSADError: if the method uses semi-labels and the batch has none.
        """
        x, semi_y, _, _ = unpack(batch)
        if semi_y is not None:
            return x, semi_y
        if self.uses_semi_labels:
            raise DeepSADError(
                f"{type(self).__name__} learns from semi-labels, but the training batches have none; let the loader "
                "yield (x, semi_y, y) or (x, semi_y, y, idx) with semi_y 0 for unlabeled samples, +1 for known normal "
                "ones and -1 for known anomalies"
            )
        return x, torch.zeros(len(x), dtype=torch.int64, device=x.device)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of a batch, logged as ``train_loss`` unless a callback records it."""
        x, semi_y = self.training_part(batch)
        terms = self.terms(x, semi_y)
        require_one_each(self, "terms", terms, len(x))
        if self._logs_loss():
            # A float: Lightning averages the counts of all ranks, and would truncate the average of integers.
            count: Any = float(len(terms))
            mean = terms.detach().mean()
            self.log("train_loss", mean, on_step=False, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=count)
        return global_mean(terms)

    def _logs_loss(self) -> bool:
        if self._trainer is None:
            return False
        callbacks = self._trainer.callbacks  # type: ignore[attr-defined]
        return not any(getattr(callback, "records_losses", False) for callback in callbacks)

    def on_train_epoch_start(self) -> None:
        """Set the learning rate of this epoch's phase and start the epoch's noise.

        Other optimizers than that of this class, and those with a scheduler, keep their learning rates.
        """
        if not self.trainer.lr_scheduler_configs:
            following = [optimizer for optimizer in self.trainer.optimizers if hasattr(optimizer, _FOLLOWS)]
            for group in (group for optimizer in following for group in optimizer.param_groups):
                group["lr"] = lr_at(self.current_epoch, self.lr, self.epochs)
            if not following and len({*self.lr}) > 1 and self.current_epoch == 0:
                log.warning(
                    "%s.configure_optimizers replaces the schedule of learning rates, so lr=%s of epochs=%s has no "
                    "effect after the first phase; return an lr_scheduler, too",
                    *(type(self).__name__, self.lr, self.epochs),
                )
        self.start_noise(self.current_epoch, self.global_rank)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with its recommended defaults and the weight decay of the objective (appendix C)."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        adam = torch.optim.Adam(trained, lr=self.lr[0], weight_decay=self.weight_decay, fused=True)
        setattr(adam, _FOLLOWS, True)
        return adam

    def on_test_epoch_start(self) -> None:
        """Discard earlier scores."""
        self._scored.clear()

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Score a batch.

        Raises:
            DeepSADError: if it has no ground truth.
        """
        x, _, y, idx = unpack(batch)
        if y is None:
            raise DeepSADError(
                "the batches have no ground truth to evaluate the scores with; let the loader yield (x, y) with y 0 "
                "for normal samples and 1 for anomalies, or use trainer.predict, which needs none"
            )
        self._scored.append((idx, y, self.checked_score(x)))

    def on_test_epoch_end(self) -> None:
        """Gather the scores of all ranks, each sample once, and log the metrics."""
        self.test_result = self._gathered()
        evaluate = detection_metrics if self.needs_truth else metrics_where_known
        metrics = evaluate(self.test_result["score"], self.test_result["y"])
        found = {f"test/{name}": value for name, value in metrics.items() if value is not None}
        self.log_dict(found, rank_zero_only=True)

    def on_validation_epoch_start(self) -> None:
        """Discard earlier scores."""
        self._scored.clear()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Score a batch, as in a test."""
        self.test_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics, but not in Lightning's sanity check or a ``fast_dev_run``, which see only a few batches."""
        result = self._gathered()
        if self.trainer.sanity_checking or self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        metrics = detection_metrics(result["score"], result["y"])
        self.log_dict({f"val/{name}": value for name, value in metrics.items()}, prog_bar=True, sync_dist=True)

    def _gathered(self) -> dict[str, Tensor]:
        """The scores of all ranks since the start of the epoch, each sample once, sorted by index."""
        given, y, score = (list(column) for column in zip(*self._scored, strict=True))
        self._scored.clear()
        ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        idx = [part for part in given if part is not None]
        if len(idx) < len(given):
            # A distributed sampler assigns samples to the ranks in turn.
            idx = [torch.arange(sum(map(len, y))) * ranks + self.global_rank]
        parts = [torch.cat(column).cpu() for column in (idx, y, score)]
        if ranks > 1:
            gathered: list[Any] = [None] * ranks
            dist.all_gather_object(gathered, parts)
            parts = [torch.cat(column) for column in zip(*gathered, strict=True)]
        if ranks == 1:
            # All samples count, even if a loader of several data sets numbers them alike.
            order = torch.argsort(parts[0], stable=True)
            return {name: part[order] for name, part in zip(("idx", "y", "score"), parts, strict=True)}
        # A distributed sampler other than ours may repeat samples so that all ranks get the same number.
        values, inverse = torch.unique(parts[0], return_inverse=True)
        numbers = torch.arange(len(inverse))
        order = torch.full((len(values),), len(inverse)).scatter_reduce(0, inverse, numbers, "amin")
        return {name: part[order] for name, part in zip(("idx", "y", "score"), parts, strict=True)}

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """The anomaly scores of a batch, shape (B,)."""
        return self.checked_score(unpack(batch).x)
