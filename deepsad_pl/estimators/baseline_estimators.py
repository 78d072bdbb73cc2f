"""Deep baselines that are not in the paper, as scikit-learn estimators; see ``Estimator``."""

from collections.abc import Mapping, Sequence
from typing import Any

from deepsad_pl.estimators.deep_estimators import Lengths, Numbers
from deepsad_pl.estimators.estimator import Estimator


class DevNet(Estimator):
    """Deviation network (Pang et al. 2019), which learns scores directly and needs known anomalies.

    Args:
        margin: least deviation of known anomalies, > 0.
        references: number of reference scores, >= 2.
    """

    def __init__(
        self,
        *,
        margin: float = 5.0,
        references: int = 5000,
        lr: Numbers = None,
        epochs: Lengths = None,
        batch_size: int | None = None,
        weight_decay: float = 1e-6,
        pretrain: str | None = "none",
        pretrain_lr: Numbers = None,
        pretrain_epochs: Lengths = None,
        threshold: str = "quantile",
        alpha: float = 0.05,
        scaling: str = "zscore",
        network: Mapping[str, Any] | None = None,
        max_epochs: int | None = None,
        random_state: Any = 0,
        device: str = "auto",
        overrides: Sequence[str] = (),
    ) -> None:
        self.margin = margin
        self.references = references
        self.lr = lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.pretrain = pretrain
        self.pretrain_lr = pretrain_lr
        self.pretrain_epochs = pretrain_epochs
        self.threshold = threshold
        self.alpha = alpha
        self.scaling = scaling
        self.network = network
        self.max_epochs = max_epochs
        self.random_state = random_state
        self.device = device
        self.overrides = overrides

    def _method(self) -> str:
        return "devnet"


class LOE(Estimator):
    """Latent outlier exposure (Qiu et al. 2022) on Deep SVDD; known anomalies are left out of its training.

    Args:
        assignment: ``hard`` or ``soft``.
        expected_share: expected share of anomalies among the samples, in (0, 1); None: there are none.
        warmup: number of first epochs in which all samples count as normal.
    """

    def __init__(
        self,
        *,
        assignment: str = "hard",
        expected_share: float | None = None,
        warmup: int = 2,
        lr: Numbers = None,
        epochs: Lengths = None,
        batch_size: int | None = None,
        weight_decay: float = 1e-6,
        pretrain: str | None = "autoencoder",
        pretrain_lr: Numbers = None,
        pretrain_epochs: Lengths = None,
        threshold: str = "quantile",
        alpha: float = 0.05,
        scaling: str = "zscore",
        network: Mapping[str, Any] | None = None,
        max_epochs: int | None = None,
        random_state: Any = 0,
        device: str = "auto",
        overrides: Sequence[str] = (),
    ) -> None:
        self.assignment = assignment
        self.expected_share = expected_share
        self.warmup = warmup
        self.lr = lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.pretrain = pretrain
        self.pretrain_lr = pretrain_lr
        self.pretrain_epochs = pretrain_epochs
        self.threshold = threshold
        self.alpha = alpha
        self.scaling = scaling
        self.network = network
        self.max_epochs = max_epochs
        self.random_state = random_state
        self.device = device
        self.overrides = overrides

    def _method(self) -> str:
        return "loe"


class PReNet(Estimator):
    """PReNet (Pang et al. 2023), which learns from pairs of samples and needs known anomalies.

    Args:
        gap: target of a pair with one known anomaly, > 0; half of that of two.
        partners: number of training samples of each kind with which a sample is paired to score it, >= 1.
    """

    def __init__(
        self,
        *,
        gap: float = 4.0,
        partners: int = 30,
        lr: Numbers = None,
        epochs: Lengths = None,
        batch_size: int | None = None,
        weight_decay: float = 1e-6,
        pretrain: str | None = "none",
        pretrain_lr: Numbers = None,
        pretrain_epochs: Lengths = None,
        threshold: str = "quantile",
        alpha: float = 0.05,
        scaling: str = "zscore",
        network: Mapping[str, Any] | None = None,
        max_epochs: int | None = None,
        random_state: Any = 0,
        device: str = "auto",
        overrides: Sequence[str] = (),
    ) -> None:
        self.gap = gap
        self.partners = partners
        self.lr = lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.pretrain = pretrain
        self.pretrain_lr = pretrain_lr
        self.pretrain_epochs = pretrain_epochs
        self.threshold = threshold
        self.alpha = alpha
        self.scaling = scaling
        self.network = network
        self.max_epochs = max_epochs
        self.random_state = random_state
        self.device = device
        self.overrides = overrides

    def _method(self) -> str:
        return "prenet"


class FeaWAD(Estimator):
    """FeaWAD (Zhou et al. 2021), which scores what an autoencoder makes of a sample and needs known anomalies.

    Args:
        margin: least score and least reconstruction error of known anomalies, > 0.
        units: widths of the hidden layers that compute the score.
    """

    def __init__(
        self,
        *,
        margin: float = 5.0,
        units: Sequence[int] = (256, 32),
        lr: Numbers = None,
        epochs: Lengths = None,
        batch_size: int | None = None,
        weight_decay: float = 1e-6,
        pretrain: str | None = "autoencoder",
        pretrain_lr: Numbers = None,
        pretrain_epochs: Lengths = None,
        threshold: str = "quantile",
        alpha: float = 0.05,
        scaling: str = "zscore",
        network: Mapping[str, Any] | None = None,
        max_epochs: int | None = None,
        random_state: Any = 0,
        device: str = "auto",
        overrides: Sequence[str] = (),
    ) -> None:
        self.margin = margin
        self.units = units
        self.lr = lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.pretrain = pretrain
        self.pretrain_lr = pretrain_lr
        self.pretrain_epochs = pretrain_epochs
        self.threshold = threshold
        self.alpha = alpha
        self.scaling = scaling
        self.network = network
        self.max_epochs = max_epochs
        self.random_state = random_state
        self.device = device
        self.overrides = overrides

    def _method(self) -> str:
        return "feawad"


class RoSAS(Estimator):
    """RoSAS (Xu et al. 2023), which learns from triplets and mixtures of samples and needs known anomalies.

    Args:
        margin: margin of the triplet loss, > 0.
    """

    def __init__(
        self,
        *,
        margin: float = 5.0,
        lr: Numbers = None,
        epochs: Lengths = None,
        batch_size: int | None = None,
        weight_decay: float = 1e-6,
        pretrain: str | None = "none",
        pretrain_lr: Numbers = None,
        pretrain_epochs: Lengths = None,
        threshold: str = "quantile",
        alpha: float = 0.05,
        scaling: str = "zscore",
        network: Mapping[str, Any] | None = None,
        max_epochs: int | None = None,
        random_state: Any = 0,
        device: str = "auto",
        overrides: Sequence[str] = (),
    ) -> None:
        self.margin = margin
        self.lr = lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.pretrain = pretrain
        self.pretrain_lr = pretrain_lr
        self.pretrain_epochs = pretrain_epochs
        self.threshold = threshold
        self.alpha = alpha
        self.scaling = scaling
        self.network = network
        self.max_epochs = max_epochs
        self.random_state = random_state
        self.device = device
        self.overrides = overrides

    def _method(self) -> str:
        return "rosas"
