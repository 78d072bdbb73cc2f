"""The deep methods as scikit-learn estimators; ``Estimator`` describes the parameters that they share."""

from collections.abc import Mapping, Sequence
from typing import Any

from deepsad_pl.estimators.estimator import Estimator

Numbers = float | Sequence[float] | None
Lengths = int | Sequence[int] | None


class DeepSAD(Estimator):
    """Deep SAD: scores samples by how far their representation, learned with labels, lies from a center.

    Args:
        eta: weight of the labeled samples, > 0.
        eta_scale: ``initial``: squared distances are measured in units of their mean before the first step, so the
            effect of eta does not depend on the scale of the representations; ``fixed``: the paper's.
        center_from: samples whose mean representation is the center: ``unlabeled_and_normal``, ``all`` or
            ``labeled_normal``.
    """

    def __init__(
        self,
        *,
        eta: float = 1.0,
        eta_scale: str = "fixed",
        center_from: str = "unlabeled_and_normal",
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
        self.eta = eta
        self.eta_scale = eta_scale
        self.center_from = center_from
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
        return "deep_sad"


class DeepSVDD(Estimator):
    """One-class Deep SVDD, which sees no labels; known anomalies are left out of its training."""

    def __init__(
        self,
        *,
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
        return "deep_svdd"


class SoftBoundarySVDD(Estimator):
    """Soft-boundary Deep SVDD, which sees no labels; known anomalies are left out of its training.

    Args:
        nu: share of the samples that may lie outside the sphere, in (0, 1).
    """

    def __init__(
        self,
        *,
        nu: float = 0.1,
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
        self.nu = nu
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
        return "soft_boundary_svdd"


class Autoencoder(Estimator):
    """Autoencoder that scores samples by reconstruction error; known anomalies are left out of its training.

    Args:
        loss: ``mse``, or ``cross_entropy`` for inputs in [0, 1].
    """

    def __init__(
        self,
        *,
        loss: str = "mse",
        lr: Numbers = None,
        epochs: Lengths = None,
        batch_size: int | None = None,
        weight_decay: float = 1e-6,
        threshold: str = "quantile",
        alpha: float = 0.05,
        scaling: str = "zscore",
        network: Mapping[str, Any] | None = None,
        max_epochs: int | None = None,
        random_state: Any = 0,
        device: str = "auto",
        overrides: Sequence[str] = (),
    ) -> None:
        self.loss = loss
        self.lr = lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.threshold = threshold
        self.alpha = alpha
        self.scaling = scaling
        self.network = network
        self.max_epochs = max_epochs
        self.random_state = random_state
        self.device = device
        self.overrides = overrides

    def _method(self) -> str:
        return "autoencoder"


class Classifier(Estimator):
    """Binary classifier that needs known anomalies; unlabeled samples count as normal."""

    def __init__(
        self,
        *,
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
        return "classifier"


class HSC(Estimator):
    """Hypersphere classifier, which needs known anomalies; unlabeled samples count as normal.

    Args:
        loss: ``hsc``, or its supervised counterparts ``bce`` (binary cross-entropy) and ``focal``.
        focal_gamma: exponent of the focal loss, >= 0.
        balance: whether known anomalies together weigh as much as all other samples.
    """

    def __init__(
        self,
        *,
        loss: str = "hsc",
        focal_gamma: float = 2.0,
        balance: bool = True,
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
        self.loss = loss
        self.focal_gamma = focal_gamma
        self.balance = balance
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
        return "hsc"


class SSDGM(Estimator):
    """Semi-supervised deep generative model (Kingma et al. 2014), which needs known anomalies.

    Args:
        variant: ``m2``, on the inputs, or ``m1m2``, on the latent variables of a variational autoencoder.
        hidden: widths of the hidden layers; None: those of the network.
        latent: number of latent variables; None: that of the network.
        anomaly_prior: share of anomalies among unlabeled samples that the model assumes; ``uniform``: 1/2.
    """

    def __init__(
        self,
        *,
        variant: str = "m2",
        hidden: Sequence[int] | None = None,
        latent: int | None = None,
        anomaly_prior: float | str = 0.05,
        lr: Numbers = None,
        epochs: Lengths = None,
        batch_size: int | None = None,
        weight_decay: float = 1e-6,
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
        self.variant = variant
        self.hidden = hidden
        self.latent = latent
        self.anomaly_prior = anomaly_prior
        self.lr = lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
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
        return f"ss_dgm_{self.variant}"
