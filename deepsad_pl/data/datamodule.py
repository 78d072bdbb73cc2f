"""The LightningDataModule for all data sets: tensors in memory, batches drawn by index."""

import hashlib
import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deepsad_pl.common.counting import are, counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.lightning_api import LightningDataModule
from deepsad_pl.data.balanced_loader import BalancedLoader, require_both_kinds
from deepsad_pl.data.batch_loader import BatchLoader
from deepsad_pl.data.queried_labels import QueriedLabels, pool_of, queried_training_set
from deepsad_pl.data.scenario import Scenario, TrainingSet, draw_training_set, given_training_set, is_given
from deepsad_pl.data.sources import Source
from deepsad_pl.data.training_counts import counts_of_rows
from deepsad_pl.data.tuple_loader import PairLoader, TripletLoader

# Samples in a scoring batch, fewer for large images: the activations of more would not fit into a CPU's caches.
_EVAL_SAMPLES = 200
_EVAL_PIXELS = _EVAL_SAMPLES * 32 * 32
# The random stream of the references, independent of all other draws.
_REFERENCE_STREAM = 120
# The random stream of the partners.
_PARTNER_STREAM = 122
# How training batches are drawn.
Sampling = Literal["shuffled", "balanced", "pairs", "triplets"]
_LOADERS: dict[str, type[BatchLoader]] = {
    "shuffled": BatchLoader,
    "balanced": BalancedLoader,
    "pairs": PairLoader,
    "triplets": TripletLoader,
}


def scoring_batch_size(shape: tuple[int, ...]) -> int:
    """The number of samples of a shape, (C, H, W) or (D,), in a batch of scoring."""
    return max(1, min(_EVAL_SAMPLES, _EVAL_PIXELS // math.prod(shape[1:])))


class AnomalyDataModule(LightningDataModule):
    """The semi-supervised training set drawn from a source for a scenario, and the source's whole test set.

    Batches are ``(x, semi_y, y, idx)``: float32 input (B, ...), semi-label (0 unlabeled, +1 known normal, -1 known
    anomaly), ground truth (0 normal, 1 anomaly; never read in training) and the position in the training or test set.

    Args:
        source: the data.
        scenario: which classes are normal, and how many rows are labeled or pollution.
        classes: class names, for error messages.
        batch_size: global batch size, over all ranks.
        seed: seed of the shuffling.
        labeled_anomalies: whether labeled anomalies are part of the training data.
        held_out: positions in the training set of the samples that are kept out of the training data, to calibrate a
            threshold, shape (n,).
        exposure: images of a second data set, which are known anomalies as well, shape (M, C, H, W); None: there are
            none.
        sampling: how training batches are drawn: ``shuffled``, each sample once in an epoch; ``balanced``, half of
            them labeled anomalies (:class:`~deepsad_pl.data.balanced_loader.BalancedLoader`); ``pairs`` or ``triplets``
            of samples (:mod:`~deepsad_pl.data.tuple_loader`).

    Attributes:
        training_set: the rows drawn for the scenario; always includes the labeled anomalies.
        counts: the number of training rows of each kind.

    Raises:
        DeepSADError: if the data do not suffice for the scenario, there are fewer class names than classes, the test
            data are all normal or all anomalous, or a training batch would hold a single sample.
    """

    def __init__(
        self,
        source: Source,
        scenario: Scenario,
        *,
        classes: tuple[str, ...] = (),
        batch_size: int = 200,
        seed: int = 0,
        labeled_anomalies: bool = True,
        held_out: npt.ArrayLike = (),
        exposure: npt.NDArray[Any] | None = None,
        sampling: Sampling = "shuffled",
    ) -> None:
        super().__init__()
        self.source = source
        self.scenario = scenario
        self.batch_size = batch_size
        self.seed = seed
        self.training_set = training_set_of(source, scenario, classes)
        keep = np.ones(len(self.training_set.index), bool) if labeled_anomalies else self.training_set.semi_y != -1
        self._held_out = np.sort(np.asarray(held_out, dtype=np.int64))
        keep[self._held_out] = False
        self._rows = self.training_set.index[keep]
        drawn = self.training_set.counts
        if len(self._held_out):
            drawn = counts_of_rows(self.training_set.semi_y[keep], self.training_set.y[keep])
        self.counts = drawn if labeled_anomalies else replace(drawn, labeled_anomalies=0, wrong_anomalies=0)
        semi_y, y = self.training_set.semi_y[keep], self.training_set.y[keep]
        self._exposure = exposure if labeled_anomalies else None
        if self._exposure is not None:
            added = len(self._exposure)
            self.counts = replace(self.counts, exposure=added)
            semi_y, y = np.append(semi_y, np.full(added, -1)), np.append(y, np.ones(added, np.int64))
        self._semi_y, self._y = torch.from_numpy(semi_y), torch.from_numpy(y)
        self._test_y = torch.from_numpy(_test_truth(source, scenario))
        self._check()
        self.sample(sampling)

    def _check(self) -> None:
        normals, anomalies = (int((self._test_y == label).sum()) for label in (0, 1))
        if not (normals and anomalies) and not is_given(self.scenario):
            raise DeepSADError(
                f"the test data hold {normals} normal and {anomalies} anomalous samples, but AUROC needs both; choose "
                "another scenario.normal_class"
            )
        size = len(self._semi_y)
        smallest = size // max(1, self.batches)
        if smallest < 2:
            raise DeepSADError(
                f"{size} training rows in batches of {self.batch_size} leave a batch of {smallest} sample, "
                "but batch normalization needs 2; change the batch_size or use more data"
            )

    def setup(self, stage: str) -> None:
        """Refuse to validate on this data module: it has no validation set, and the test set is only for ``test``.

        Raises:
            DeepSADError: in ``trainer.validate(datamodule=...)``, unless a subclass has a ``val_dataloader``.
        """
        if stage != "validate" or type(self).val_dataloader is not LightningDataModule.val_dataloader:
            return
        assert self.trainer is not None
        # After fit, a Trainer sets this data module up even if validate is given another loader, which is allowed.
        if self.trainer.validate_loop._data_source.instance is self:
            raise DeepSADError(
                "there is no validation set, and the test set is for trainer.test alone; hold out labeled samples "
                "yourself and pass trainer.validate a loader of (x, y) with y 0 for normal samples and 1 for anomalies"
            )

    def __str__(self) -> str:
        """The number of training and test samples of each kind."""
        return f"{type(self).__name__}: training {self.counts.as_dict()}, test {self.test_counts}"

    @property
    def test_counts(self) -> dict[str, int]:
        """The number of test samples of each kind; ``test_unknown`` only if the truth of some is not known."""
        normal, anomalous, unknown = (int((self._test_y == label).sum()) for label in (0, 1, -1))
        counts = {"test": len(self._test_y), "test_normal": normal, "test_anomalous": anomalous}
        return counts | ({"test_unknown": unknown} if unknown else {})

    @property
    def batches(self) -> int:
        """The number of batches in a training epoch."""
        return -(-len(self._semi_y) // self.batch_size)

    def digest(self) -> str:
        """A hash of the training rows: their positions and values, without labels."""
        digest = hashlib.sha256(np.ascontiguousarray(self._rows).data)
        digest.update(np.ascontiguousarray(self._x_train()).data)
        return digest.hexdigest()

    @property
    def semi_y(self) -> npt.NDArray[np.int64]:
        """The semi-labels of the training rows, shape (N,)."""
        return self._semi_y.numpy()

    @property
    def test_y(self) -> npt.NDArray[np.int64]:
        """The ground truth of the test set, shape (n,)."""
        return self._test_y.numpy()

    def ordered_dataloader(self) -> BatchLoader:
        """The training set in its original order, in batches of the size used for scoring."""
        x = torch.from_numpy(self._x_train())
        return self._loader(x, self._semi_y, self._y, batch_size=self._eval_batch_size)

    @property
    def _calibration(self) -> npt.NDArray[np.int64]:
        """The positions in the training set of the calibration samples."""
        return self._held_out if len(self._held_out) else np.flatnonzero(self.training_set.semi_y >= 0)

    @property
    def held_out_count(self) -> int:
        """The number of samples that are kept out of the training data."""
        return len(self._held_out)

    @property
    def calibration_semi_y(self) -> npt.NDArray[np.int64]:
        """The semi-labels of the calibration samples, shape (n,)."""
        return self.training_set.semi_y[self._calibration]

    def calibration_dataloader(self) -> BatchLoader:
        """The samples that are held out, in their order; if none are, the training ones that are no known anomalies.

        Their ground truth is not known (-1), whether or not the data have it: a threshold must not depend on it.
        """
        positions = self._calibration
        x = torch.from_numpy(np.array(self.source.x_train[self.training_set.index[positions]]))
        semi_y = torch.from_numpy(self.training_set.semi_y[positions])
        return self._loader(x, semi_y, torch.full_like(semi_y, -1), batch_size=self._eval_batch_size)

    def references(self, count: int) -> npt.NDArray[np.float32]:
        """Training samples that are no labeled anomalies, as a network sees them, drawn by the seed: (count, ...).

        All of them, in their order, if there are fewer.
        """
        rows = self._rows[self.semi_y[: len(self._rows)] != -1]
        if len(rows) > count:
            drawn = np.random.default_rng([self.seed, _REFERENCE_STREAM]).choice(len(rows), count, replace=False)
            rows = rows[np.sort(drawn)]
        found: npt.NDArray[np.float32] = self.source.x_train[rows].astype(np.float32)
        return found if self.source.scale is None else found / np.float32(self.source.scale)

    def partners(self, count: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Training samples, as a network sees them, with which the samples to score can be paired.

        Drawn by the seed, with replacement.

        Args:
            count: number of samples of each kind.

        Returns:
            Samples that are no labeled anomalies, and labeled anomalies: (count, ...) each.
        """
        generator = np.random.default_rng([self.seed, _PARTNER_STREAM])
        found: list[npt.NDArray[np.float32]] = []
        inside = len(self._rows)
        for kind in (self.semi_y != -1, self.semi_y == -1):
            places = np.flatnonzero(kind)
            drawn = places[generator.integers(len(places), size=count)]
            samples = np.empty((count, *self.source.x_train.shape[1:]), np.float32)
            samples[drawn < inside] = self.source.x_train[self._rows[drawn[drawn < inside]]]
            if self._exposure is not None:
                samples[drawn >= inside] = self._exposure[drawn[drawn >= inside] - inside]
            if self.source.scale is not None:
                samples /= np.float32(self.source.scale)
            found.append(samples)
        return found[0], found[1]

    def _x_train(self) -> npt.NDArray[Any]:
        rows: npt.NDArray[Any] = self.source.x_train[self._rows]
        return rows if self._exposure is None else np.concatenate([rows, self._exposure])

    @property
    def _eval_batch_size(self) -> int:
        return scoring_batch_size(self.source.shape)

    def sample(self, sampling: Sampling) -> None:
        """Set how training batches are drawn.

        Raises:
            DeepSADError: if there is no such way, or the training data do not allow it.
        """
        if sampling not in _LOADERS:
            raise DeepSADError(f"sampling is {sampling!r}; choose one of {', '.join(_LOADERS)}")
        if sampling != "shuffled":
            require_both_kinds(self._semi_y)
        self.sampling: Sampling = sampling

    def train_dataloader(self) -> BatchLoader:
        """The training set, in batches that are drawn anew each epoch."""
        kind = _LOADERS[self.sampling]
        x = torch.from_numpy(self._x_train())
        return self._loader(x, self._semi_y, self._y, batch_size=self.batch_size, seed=self.seed, kind=kind)

    def test_dataloader(self) -> BatchLoader:
        """The whole test set in its original order."""
        unlabeled = torch.zeros_like(self._test_y)
        x = self.source.x_test
        # A memory-mapped array is copied: it is read-only, and its pages may have to be read from disk again.
        samples = torch.from_numpy(x if x.flags.writeable else np.array(x))
        return self._loader(samples, unlabeled, self._test_y, batch_size=self._eval_batch_size)

    def predict_dataloader(self) -> BatchLoader:
        """The whole test set in its original order."""
        return self.test_dataloader()

    def _loader(
        self, x: Tensor, semi_y: Tensor, y: Tensor, kind: type[BatchLoader] = BatchLoader, **kwargs: Any
    ) -> BatchLoader:
        device, rank, world_size = torch.device("cpu"), 0, 1
        if self.trainer is not None:
            device = self.trainer.strategy.root_device
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
        tensors = (tensor.to(device) for tensor in (x, semi_y, y))
        return kind(*tensors, scale=self.source.scale, rank=rank, world_size=world_size, **kwargs)


def training_set_of(source: Source, scenario: Scenario, classes: tuple[str, ...] = ()) -> TrainingSet:
    """The training set of a scenario, drawn or given.

    Args:
        source: the data.
        scenario: who is normal, labeled, polluting.
        classes: class names, for messages.

    Raises:
        DeepSADError: if the scenario cannot be had from the data.
    """
    if is_given(scenario):
        if source.semi_y_train is None:
            raise DeepSADError(
                "scenario=given uses labels that come with the data, but these data have none; use scenario=default, "
                "or a data set with labels, such as dataset=table"
            )
        return given_training_set(source.semi_y_train)
    if isinstance(scenario, QueriedLabels):
        if source.semi_y_train is None:
            raise DeepSADError("scenario=queried needs the answers about the rows that it asked about")
        return queried_training_set(pool_of(source.labels_train, scenario, classes), source.semi_y_train)
    highest = int(max(source.labels_train.max(), source.labels_test.max()))
    if classes and highest >= len(classes):
        raise DeepSADError(
            f"the data contain class {highest}, but there {are(len(classes))} only "
            f"{counted(len(classes), 'class name')}; name every class"
        )
    return draw_training_set(source.labels_train, scenario, classes)


def _test_truth(source: Source, scenario: Scenario) -> npt.NDArray[np.int64]:
    """The ground truth of the test set: 0 normal, 1 anomaly, -1 not known (only with given labels)."""
    if is_given(scenario):
        return source.labels_test.astype(np.int64)
    return (~np.isin(source.labels_test, scenario.normal_classes)).astype(np.int64)
