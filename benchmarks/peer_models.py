"""The detectors and classifiers of other libraries that ``benchmarks.peers`` compares with, each with its defaults."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]
INSTALL = "pip install --no-deps -r benchmarks/peers-requirements.txt"


@dataclass(frozen=True)
class Problem:
    """The training and test data of one seed, the same for all peers.

    Attributes:
        x: standardised training rows, shape (n, D).
        known: whether a training row is a known anomaly, shape (n,); all others are unlabeled.
        x_test: standardised test rows, shape (t, D).
        seed: seed of the peer's random draws.
        quick: whether to train networks for one epoch only.
    """

    x: Rows
    known: npt.NDArray[np.bool_]
    x_test: Rows
    seed: int
    quick: bool = False


@dataclass(frozen=True)
class Peer:
    """A model of another library.

    Attributes:
        packages: the packages that must be installed, as pip and import call them.
        module: dotted path of the module that is imported.
        score: function of the module and a problem that trains and scores the test rows; higher is more anomalous.
    """

    packages: tuple[str, ...]
    module: str
    score: Callable[[Any, Problem], Scores]

    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return [package for package in self.packages if find_spec(package) is None]

    def run(self, problem: Problem) -> Scores:
        """Train on the problem and return the anomaly score of each test row, shape (t,)."""
        # Some of these libraries draw from NumPy's global stream, whatever seed they are given.
        np.random.seed(problem.seed)  # noqa: NPY002
        return self.score(import_module(self.module), problem)


def _deepod(name: str, module: Any, problem: Problem) -> Scores:
    length = {"epochs": 1} if problem.quick else {}
    model = getattr(module, name)(device="cpu", verbose=0, random_state=problem.seed, **length)
    model.fit(problem.x, problem.known.astype(np.int64))
    return _flat(model.decision_function(problem.x_test))


def _pyod_deep_svdd(module: Any, problem: Problem) -> Scores:
    length = {"epochs": 1} if problem.quick else {}
    model = module.DeepSVDD(problem.x.shape[1], verbose=0, random_state=problem.seed, **length)
    # As in our Deep SVDD, which does not see the known anomalies.
    model.fit(problem.x[~problem.known])
    return _flat(model.decision_function(problem.x_test))


def _pyod_xgbod(module: Any, problem: Problem) -> Scores:
    model = module.XGBOD(random_state=problem.seed)
    model.fit(problem.x, problem.known.astype(np.int64))
    return _flat(model.decision_function(problem.x_test))


def _sklearn(name: str, module: Any, problem: Problem) -> Scores:
    model = getattr(module, name)(random_state=problem.seed)
    # Unlabeled rows count as normal.
    model.fit(problem.x, problem.known)
    return _flat(model.predict_proba(problem.x_test)[:, 1])


def _flat(scores: npt.ArrayLike) -> Scores:
    return np.asarray(scores, dtype=np.float64).ravel()


_DEEPOD = ("DeepSAD", "DevNet", "PReNet", "FeaWAD", "RoSAS")
PEERS: dict[str, Peer] = {
    **{f"DeepOD {n}": Peer(("deepod", "tqdm"), "deepod.models.tabular", partial(_deepod, n)) for n in _DEEPOD},
    "PyOD DeepSVDD": Peer(("pyod", "numba"), "pyod.models.deep_svdd", _pyod_deep_svdd),
    "PyOD XGBOD": Peer(("pyod", "numba", "xgboost"), "pyod.models.xgbod", _pyod_xgbod),
    "random forest": Peer(("sklearn",), "sklearn.ensemble", partial(_sklearn, "RandomForestClassifier")),
    "gradient boosting": Peer(("sklearn",), "sklearn.ensemble", partial(_sklearn, "GradientBoostingClassifier")),
    "logistic regression": Peer(("sklearn",), "sklearn.linear_model", partial(_sklearn, "LogisticRegression")),
}
