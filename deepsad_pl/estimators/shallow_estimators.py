"""The shallow methods as scikit-learn estimators; ``Estimator`` describes the parameters that they share."""

from collections.abc import Mapping, Sequence
from typing import Any

from deepsad_pl.estimators.estimator import Estimator

Numbers = float | Sequence[float] | None
Lengths = int | Sequence[int] | None


class OCSVM(Estimator):
    """One-class SVM with a Gaussian kernel; known anomalies are left out of its training.

    Args:
        features: ``raw``, the inputs, or ``hybrid``, the bottleneck of an autoencoder.
        selection: how gamma is selected: ``holdout``, on training samples, or ``none``, scikit-learn's default.
        gammas: candidates for gamma, each > 0; None: 2^-7 to 2^2.
        nu: share of the training samples that may lie outside the boundary, in (0, 1).
    """

    def __init__(
        self,
        *,
        features: str = "raw",
        selection: str = "holdout",
        gammas: Sequence[float] | None = None,
        nu: float = 0.5,
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
        self.features = features
        self.selection = selection
        self.gammas = gammas
        self.nu = nu
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
        return f"ocsvm_{self.features}"


class IsolationForest(Estimator):
    """Isolation forest; known anomalies are left out of its training.

    Args:
        features: ``raw``, the inputs, or ``hybrid``, the bottleneck of an autoencoder.
        trees: number of trees.
        subsample: number of samples for each tree.
    """

    def __init__(
        self,
        *,
        features: str = "raw",
        trees: int = 100,
        subsample: int = 256,
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
        self.features = features
        self.trees = trees
        self.subsample = subsample
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
        return f"iforest_{self.features}"


class KDE(Estimator):
    """Gaussian kernel density estimate; known anomalies are left out of its training.

    Args:
        features: ``raw``, the inputs, or ``hybrid``, the bottleneck of an autoencoder.
        bandwidths: candidates for the bandwidth; None: 2^.5 to 2^5.
        folds: folds of the cross-validation that selects the bandwidth.
    """

    def __init__(
        self,
        *,
        features: str = "raw",
        bandwidths: Sequence[float] | None = None,
        folds: int = 5,
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
        self.features = features
        self.bandwidths = bandwidths
        self.folds = folds
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
        return f"kde_{self.features}"


class SSAD(Estimator):
    """Convex semi-supervised anomaly detection with a Gaussian kernel (Goernitz et al. 2013).

    Args:
        features: ``raw``, the inputs, or ``hybrid``, the bottleneck of an autoencoder.
        selection: how gamma is selected: ``none``, scikit-learn's default, or ``holdout``, cross-validation over the
            labeled anomalies, which takes about 50 fits: many minutes for thousands of samples.
        gammas: candidates for gamma, each > 0; None: 2^-7 to 2^2.
        kappa: weight of the margin of labeled samples, >= 0.
        eta_u: cost of unlabeled samples on the wrong side, > 0.
        eta_l: cost of labeled samples on the wrong side, > 0.
    """

    def __init__(
        self,
        *,
        features: str = "raw",
        selection: str = "none",
        gammas: Sequence[float] | None = None,
        kappa: float = 1.0,
        eta_u: float = 1.0,
        eta_l: float = 1.0,
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
        self.features = features
        self.selection = selection
        self.gammas = gammas
        self.kappa = kappa
        self.eta_u = eta_u
        self.eta_l = eta_l
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
        return f"ssad_{self.features}"


class KNN(Estimator):
    """Distance to the k-th nearest training sample; known anomalies are left out of its training.

    Args:
        features: ``raw``, the inputs, or ``hybrid``, the bottleneck of an autoencoder.
        neighbors: k, >= 1.
    """

    def __init__(
        self,
        *,
        features: str = "raw",
        neighbors: int = 5,
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
        self.features = features
        self.neighbors = neighbors
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
        return f"knn_{self.features}"


class KNNRatio(Estimator):
    """Distance to the k-th nearest training sample, relative to the distance to the nearest known anomaly.

    It needs known anomalies.

    Args:
        features: ``raw``, the inputs, or ``hybrid``, the bottleneck of an autoencoder.
        neighbors: k, >= 1.
    """

    def __init__(
        self,
        *,
        features: str = "raw",
        neighbors: int = 5,
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
        self.features = features
        self.neighbors = neighbors
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
        return f"knn_ratio_{self.features}"


class ExtraTrees(Estimator):
    """Extremely randomized trees that separate known anomalies, which they need, from all other training samples.

    Args:
        trees: number of trees, >= 1.
    """

    def __init__(
        self,
        *,
        trees: int = 500,
        threshold: str = "quantile",
        alpha: float = 0.05,
        scaling: str = "zscore",
        random_state: Any = 0,
        device: str = "auto",
        overrides: Sequence[str] = (),
    ) -> None:
        self.trees = trees
        self.threshold = threshold
        self.alpha = alpha
        self.scaling = scaling
        self.random_state = random_state
        self.device = device
        self.overrides = overrides

    def _method(self) -> str:
        return "trees"


class XGBOD(Estimator):
    """Boosted trees on the inputs and on the scores of unsupervised detectors (Zhao and Hryniewicki 2018).

    It needs known anomalies.

    Args:
        rounds: number of trees, >= 1.
        depth: depth of each tree, >= 1.
        learning_rate: factor of each tree's values, > 0.
    """

    def __init__(
        self,
        *,
        rounds: int = 100,
        depth: int = 3,
        learning_rate: float = 0.1,
        threshold: str = "quantile",
        alpha: float = 0.05,
        scaling: str = "zscore",
        random_state: Any = 0,
        device: str = "auto",
        overrides: Sequence[str] = (),
    ) -> None:
        self.rounds = rounds
        self.depth = depth
        self.learning_rate = learning_rate
        self.threshold = threshold
        self.alpha = alpha
        self.scaling = scaling
        self.random_state = random_state
        self.device = device
        self.overrides = overrides

    def _method(self) -> str:
        return "xgbod"


class TabICL(Estimator):
    """TabICL, a tabular foundation model that compares a sample with the training samples (Qu et al. 2025).

    It needs known anomalies, the package ``tabicl`` and its weights, which are never downloaded.

    Args:
        weights: path of the checkpoint of a TabICL classifier.
        estimators: number of views of the table whose outputs are averaged, >= 1.
    """

    def __init__(
        self,
        *,
        weights: str | None = None,
        estimators: int = 8,
        threshold: str = "quantile",
        alpha: float = 0.05,
        scaling: str = "zscore",
        random_state: Any = 0,
        device: str = "auto",
        overrides: Sequence[str] = (),
    ) -> None:
        self.weights = weights
        self.estimators = estimators
        self.threshold = threshold
        self.alpha = alpha
        self.scaling = scaling
        self.random_state = random_state
        self.device = device
        self.overrides = overrides

    def _method(self) -> str:
        return "tabicl"
