"""The deep methods as scikit-learn estimators.

All take these parameters, which only ``fit`` checks; ``docs/estimators.md`` has examples.

``threshold``: ``quantile``, the 1 - ``alpha`` quantile of the scores of training samples that are no known anomalies;
``conformal``, which keeps a fifth of these out of training; ``labeled``, the best on labeled samples kept out.
``scaling``: ``zscore`` or ``minmax``, of rows. ``network``: settings of the network, such as ``{"units": [64, 32]}``
for rows; None: the recommended one. ``max_epochs``: caps each training. ``random_state``: as in scikit-learn.
``device``: ``auto``, ``cpu`` or ``cuda``. ``overrides``: other settings, as on the command line, such as
``["trainer.threads=1"]``.

Deep methods also take ``lr`` and ``epochs``, a number each or one for each phase of the schedule, ``batch_size``, and
``weight_decay``. None is what the command recommends: 50 epochs at .001 and 100 at .0001 for rows, in batches of 200.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from deepsad_pl.estimators.estimator import Estimator

Numbers = float | Sequence[float] | None
Lengths = int | Sequence[int] | None


class DeepSAD(Estimator):
    """Deep SAD: samples far from a center are anomalies; a few labeled ones tell what far means.

    Args:
        eta: weight of the labeled samples, > 0.
        center_from: samples whose mean is the center: ``unlabeled_and_normal``, ``all`` or ``labeled_normal``.
        pretrain: ``autoencoder`` or ``none``.
        pretrain_lr: as ``lr``, of the pre-training.
        pretrain_epochs: as ``epochs``, of the pre-training.
    """

    def __init__(
        self,
        *,
        eta: float = 1.0,
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
    """One-class Deep SVDD, which sees no labels; known anomalies are left out of its training.

    Args:
        pretrain: see :class:`DeepSAD`, as for the arguments that begin with it.
    """

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
        nu: share of the samples that may lie outside of the sphere, in (0, 1).
        pretrain: see :class:`DeepSAD`, as for the arguments that begin with it.
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
    """Reconstruction error of an autoencoder; known anomalies are left out of its training.

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
    """Binary classifier that needs known anomalies; unlabeled samples count as normal.

    Args:
        pretrain: see :class:`DeepSAD`, as for the arguments that begin with it.
    """

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


class SSDGM(Estimator):
    """Semi-supervised deep generative model (Kingma et al. 2014), which needs known anomalies.

    Args:
        variant: ``m2``, on the inputs, or ``m1m2``, on the latent variables of a variational autoencoder.
        hidden: widths of the hidden layers; None: from the network.
        latent: width of the latent variables; None: from the network.
        pretrain_lr: as ``lr``, of the autoencoder of ``m1m2``.
        pretrain_epochs: as ``epochs``, of the autoencoder of ``m1m2``.
    """

    def __init__(
        self,
        *,
        variant: str = "m2",
        hidden: Sequence[int] | None = None,
        latent: int | None = None,
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
