r"""TabICL: a tabular foundation model that classifies rows by comparing them with the training rows, without training.

Objective. Nothing is trained. A transformer that was trained on many synthetic tables gets all training rows with their
labels, 1 for known anomalies and 0 for all other rows, also for unlabeled ones, together with the row x. The score is
the probability that it gives to label 1, in [0, 1].

Source: J. Qu, D. Holzmueller, G. Varoquaux, M. Le Morvan: TabICL: A tabular foundation model for in-context learning on
large data, ICML 2025; the package ``tabicl``.

Knobs:
    ``weights``: path of the checkpoint of a TabICL classifier. It is never downloaded.
    ``estimators``: number of views of the table (orders and normalizations of its columns) whose outputs are averaged,
    8 as in the package. All other settings are the package's defaults.

What differs from common practice, and why:
    The model is stored as the training rows and the path and SHA-256 of the weights, which are too large to be copied
    into each run. It refuses to score with other weights.
    A run's identity contains the SHA-256 of the weights instead of their path.

The method needs labeled anomalies. Labeled normal rows are treated like unlabeled ones. It runs on the CPU.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.ranges import Members
from deepsad_pl.shallow.kernels import FloatArray, Rows
from deepsad_pl.shallow.models import Arrays, Model
from deepsad_pl.shallow.selection import TABICL_STREAM, generator
from deepsad_pl.shallow.task import Fitted, Task
from deepsad_pl.shallow.tree_nodes import demand
from deepsad_pl.shallow.trees import is_known

# Rows that are scored at a time, which bounds the memory.
_ROWS = 1024


def fit_tabicl(task: Task, *, weights: str, estimators: Members) -> Fitted:
    """Store the training rows for TabICL, and check that its weights can be loaded; see the module docstring.

    Args:
        task: training data and resources, with at least one known anomaly and one other row.
        weights: path of the checkpoint of a TabICL classifier.
        estimators: number of views of the table, >= 1.

    Raises:
        DeepSADError: if no row is a known anomaly, or all are; if the package is not installed; if the weights cannot
            be loaded.
    """
    known, path = is_known(task.semi_y), Path(weights).expanduser().absolute()
    seed = int(generator(task.seed, TABICL_STREAM).integers(2**31))
    digest = _sha256(path)
    model = TabICLModel(task.x, known, np.asarray(str(path)), np.asarray(digest), estimators, seed)
    model.classifier()
    task.advance(1.0)
    return Fitted(model, {"protocol": "none", "estimators": estimators, "weights": digest})


class TabICLModel(Model):
    """The training rows and labels that TabICL compares a row with, and where its weights are.

    Args:
        rows: the training rows, float32, shape (n, D).
        known: whether each is a known anomaly, bool, shape (n,), of both kinds.
        weights: path of the weights, an array of a single text.
        digest: their SHA-256 in hex, an array of a single text.
        estimators: number of views of the table, >= 1.
        seed: seed of the views.

    Raises:
        ValueError: if a shape, a type or a value is not as described.
    """

    def __init__(
        self,
        rows: npt.NDArray[np.float32],
        known: npt.NDArray[np.bool_],
        weights: npt.NDArray[np.str_],
        digest: npt.NDArray[np.str_],
        estimators: Any,
        seed: Any,
    ) -> None:
        demand(rows.ndim == 2 and rows.dtype == np.float32 and rows.shape[1] > 0, "float32 rows of shape (n, D)")
        demand(known.shape == rows.shape[:1] and known.dtype == np.bool_, "one bool label per row")
        demand(bool(known.any()) and not known.all(), "rows of both labels")
        self._rows, self._known, self._weights, self._digest = rows, known, str(weights), str(digest)
        self._estimators, self._seed, self.width = int(estimators), int(seed), rows.shape[1]
        demand(self._estimators >= 1, "an estimator or more")
        self._ready: Any = None

    def arrays(self) -> Arrays:
        """The arguments of the constructor, by name."""
        texts = {"weights": np.asarray(self._weights), "digest": np.asarray(self._digest)}
        numbers = {"estimators": np.asarray(self._estimators), "seed": np.asarray(self._seed)}
        return {"rows": self._rows, "known": self._known, **texts, **numbers}

    def classifier(self) -> Any:
        """TabICL's classifier with the training rows, loaded when it is first used.

        Raises:
            DeepSADError: if the package is not installed, or the weights are missing, others or no weights.
        """
        if self._ready is None:
            try:
                from tabicl import TabICLClassifier
            except ImportError as error:
                raise DeepSADError(
                    f"TabICL cannot score without the package tabicl ({error}); run pip install 'deepsad-pl[tabicl]'"
                ) from error
            if (found := _sha256(Path(self._weights))) != self._digest:
                raise DeepSADError(
                    f"the weights {self._weights} have the SHA-256 {found[:12]}..., but the model was fitted with "
                    f"{self._digest[:12]}...; put the earlier file back, or run the experiment again"
                )
            classifier = TabICLClassifier(
                n_estimators=self._estimators,
                model_path=self._weights,
                allow_auto_download=False,
                device="cpu",
                random_state=self._seed,
            )
            try:
                self._ready = classifier.fit(self._rows, self._known.astype(np.int64))
            # Whatever a file that is no checkpoint makes torch.load or the network raise.
            except Exception as error:
                raise DeepSADError(
                    f"TabICL cannot use the weights {self._weights} ({type(error).__name__}: {error}); give "
                    "method.weights the path of a checkpoint of its classifier"
                ) from error
        return self._ready

    def _score(self, x: Rows) -> FloatArray:
        classifier, score = self.classifier(), np.empty(len(x))
        for begin in range(0, len(x), _ROWS):
            part = np.asarray(x[begin : begin + _ROWS], dtype=np.float32)
            score[begin : begin + len(part)] = classifier.predict_proba(part)[:, 1]
        return score


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DeepSADError(
            f"the weights {path} cannot be read ({error.strerror}); give method.weights the path of a checkpoint of "
            "TabICL's classifier"
        ) from error
