"""Base class of the estimators: trains a detector and returns its scores with the signs of scikit-learn."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from deepsad_pl.common.arrays import without_mask
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.compose.override_text import override_text
from deepsad_pl.estimators.label_conventions import semi_labels_in
from deepsad_pl.settings import about

if TYPE_CHECKING:
    from deepsad_pl.detector.detector import Detector

Floats = npt.NDArray[np.float64]
Samples = pd.DataFrame | npt.NDArray[Any]

# Parameters with another name on the command line. Others are settings of the method with the same name, unless they
# are translated.
_PLACES = {"max_epochs": "trainer.max_epochs"}
_SCHEDULES = {"method": ("lr", "epochs"), "pretrain": ("pretrain_lr", "pretrain_epochs")}
# Parameters that are translated in a way of their own.
_TRANSLATED = {
    *("threshold", "alpha", "scaling", "network", "random_state", "device", "overrides"),
    *("features", "variant", "pretrain"),
    *(name for names in _SCHEDULES.values() for name in names),
}
_ACCELERATORS = {"auto": "auto", "cpu": "cpu", "cuda": "gpu"}
# The parameters with a fixed set of choices.
CHOICES = {
    "threshold": ("quantile", "conformal", "labeled"),
    "device": tuple(_ACCELERATORS),
    "features": ("raw", "hybrid"),
    "variant": ("m2", "m1m2"),
}


class Estimator(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Base class of the estimators: ``fit`` trains a detector as ``train.py`` does; the other methods score with it.

    X is an array of numbers (n, D), a data frame of numbers, booleans and categories, or images (n, C, H, W):
    whole numbers from 0 to 255 or floats in [0, 1]. Missing numbers (NaN) are filled in.

    An estimator has the settings of its method and those of the parameters below that apply to it; ``fit`` checks them.
    Unless stated otherwise, None stands for the default of ``train.py``.

    Args:
        threshold: ``quantile``, the 1 - ``alpha`` quantile of the scores of all training samples that are not known
            anomalies; ``conformal``, which keeps a fifth of these samples out of training; or ``labeled``, the
            threshold with the best F1 on labeled samples kept out of training.
        alpha: false-alarm rate of ``quantile`` and ``conformal``, in (0, 1).
        scaling: scaling of rows, ``zscore`` or ``minmax``.
        lr: learning rate of a deep method: one number, or one for each phase of the schedule.
        epochs: number of epochs: one number, or one for each phase of the schedule.
        batch_size: samples per batch, >= 2.
        weight_decay: weight decay of a deep method, >= 0.
        pretrain: ``autoencoder``; or ``none`` or None for no pre-training.
        pretrain_lr: like ``lr``, for the pre-training or the autoencoder of a hybrid method.
        pretrain_epochs: like ``epochs``, for the same training.
        network: settings of the network, such as ``{"units": [64, 32]}`` for rows.
        max_epochs: upper limit on the epochs of each training.
        random_state: as in scikit-learn: None draws a seed; the same int gives bit-identical scores on the same CPU.
        device: ``auto``, ``cpu`` or ``cuda``.
        overrides: other settings, as on the command line, such as ``["trainer.threads=1"]``.

    Attributes:
        detector_: the trained :class:`~deepsad_pl.detector.detector.Detector`.
        threshold_: the score above which a sample is an anomaly.
        offset_: ``-threshold_``, so that ``decision_function`` is ``score_samples - offset_``.
        n_features_in_: the number of columns, or of channels.
        feature_names_in_: names of the columns, if X had any.
    """

    def _method(self) -> str:
        """The value of ``method=`` on the command line."""
        raise NotImplementedError

    def fit(self, X: Any, y: Any = None, *, convention: str | None = None) -> Self:  # noqa: N803
        """Train on samples, some of which may be labeled.

        Args:
            X: see the class.
            y: +1 known normal, -1 known anomaly, 0 unlabeled, shape (n,); None: nothing is labeled.
            convention: meaning of other labels, see
                :func:`~deepsad_pl.estimators.label_conventions.semi_labels_in`.

        Raises:
            ValueError: if a parameter, X or y is not as described; the message lists the problems.
        """
        x = self._checked(X, fitting=True)
        semi_y = self._semi_labels(x, y, convention)
        try:
            # Imported here because they load Lightning and Hydra, which creating an estimator does not need.
            from deepsad_pl.common.process_state import states_without_torch_kept

            with states_without_torch_kept():
                from deepsad_pl.estimators import fit_detector as fitting

            with fitting.one_at_a_time:
                self.detector_ = self._trained(x, semi_y)
        except DeepSADError as error:
            raise ValueError(str(error)) from error
        self.threshold_ = self.detector_.threshold_value()
        self.offset_ = -self.threshold_
        return self

    def score_samples(self, X: Any) -> Floats:  # noqa: N803
        """The negative anomaly score of each sample, shape (n,): higher is more normal.

        Raises:
            ValueError: if X does not match the X of ``fit``, or a sample cannot be scored.
        """
        return -self._scores(X)

    def decision_function(self, X: Any) -> Floats:  # noqa: N803
        """The threshold minus the anomaly score of each sample, shape (n,): negative for an anomaly.

        Raises:
            ValueError: see :meth:`score_samples`.
        """
        scores = self._scores(X)
        decision: Floats = self.threshold_ - scores
        return decision

    def predict(self, X: Any) -> npt.NDArray[np.int64]:  # noqa: N803
        """+1 for each normal sample, -1 for each anomaly, shape (n,).

        Raises:
            ValueError: see :meth:`score_samples`.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def fit_predict(self, X: Any, y: Any = None, *, convention: str | None = None) -> npt.NDArray[np.int64]:  # noqa: N803
        """Call :meth:`fit` and then :meth:`predict` on the same samples."""
        return self.fit(X, y, convention=convention).predict(X)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.required = self._needs_labels()
        return tags

    def _needs_labels(self) -> bool:
        # If there is no such method, ``fit`` reports it.
        return about.of_method(about.own("method").get(self._method(), {})).labels == "needed"

    def _checked(self, X: Any, *, fitting: bool) -> Samples:  # noqa: N803
        """Return X as a data frame or an array, after comparing its width and names with those of ``fit``."""
        if isinstance(X, np.ma.MaskedArray):
            X = without_mask(X)  # noqa: N806
        if fitting:
            self._takes_frames = isinstance(X, pd.DataFrame)
        if isinstance(X, pd.DataFrame) and not X.columns.is_unique:
            twice = sorted(map(str, X.columns[X.columns.duplicated()].unique()))
            raise ValueError(f"X has more than one column {', '.join(map(repr, twice))}; give each its own name")
        if isinstance(X, pd.DataFrame) and self._takes_frames:
            frame: pd.DataFrame = validate_data(self, X, reset=fitting, skip_check_array=True)
            if len(frame) < (least := 1 + fitting) or not len(frame.columns):
                raise ValueError(
                    f"X has {len(frame)} sample(s) and {len(frame.columns)} feature(s); pass at least {least} and 1"
                )
            return frame
        array: npt.NDArray[Any] = validate_data(
            self,
            X,
            reset=fitting,
            # After a fit on a data frame, X may hold text.
            dtype=None if self._takes_frames else "numeric",
            allow_nd=True,
            ensure_all_finite=not self._takes_frames and "allow-nan",
            ensure_min_samples=1 + fitting,
        )
        if array.ndim not in (2, 4):
            raise ValueError(
                f"X has the shape {array.shape}; give rows (n, D) or images (n, C, H, W), such as X[:, None] for grey "
                "ones"
            )
        return array

    def _semi_labels(self, x: Samples, y: Any, convention: str | None) -> npt.NDArray[np.int64]:
        needed = self._needs_labels()
        if y is None:
            if needed:
                raise ValueError(
                    f"{type(self).__name__} requires y to be passed, but the target y is None; mark known anomalies by "
                    "-1"
                )
            return np.zeros(len(x), np.int64)
        y = column_or_1d(y, warn=True)
        check_consistent_length(x, y)
        semi_y = semi_labels_in(y, convention)
        if needed and not (semi_y == -1).any():
            raise ValueError(
                f"{type(self).__name__} learns from labeled anomalies, but of {len(x)} samples none is a known "
                "anomaly; mark some by -1 in y"
            )
        return semi_y

    def _trained(self, x: Samples, semi_y: npt.NDArray[np.int64]) -> "Detector":
        from deepsad_pl.common.process_state import process_state_kept
        from deepsad_pl.data.in_memory import in_memory
        from deepsad_pl.estimators import fit_detector as fitting

        parameters = self.get_params(deep=False)
        if isinstance(overrides := parameters["overrides"] or (), str):
            raise DeepSADError(f"overrides is {overrides!r}; give a list of them, such as [{overrides!r}]")
        overrides = list(overrides)
        fitting.require_open(overrides)
        are_rows = x.ndim == 2
        words = fitting.rows_words() if are_rows else fitting.image_words(x.shape[1:])
        words += self._words(parameters, are_rows)
        words += _schedule_words(parameters, fitting.settings_of(words, None)["recipe"])
        settings = fitting.settings_of([*words, *overrides], None)
        if isinstance(x, pd.DataFrame):
            left_out = {*settings["dataset"]["drop"], settings["dataset"]["id"]}
            if lacking := sorted(left_out - {None, *map(str, x.columns)}):
                raise DeepSADError(f"overrides leave out {', '.join(lacking)}, but X has no such column; correct them")
            x = x[[name for name in x.columns if str(name) not in left_out]]
        elif are_rows and (settings["dataset"]["drop"] or settings["dataset"]["id"] is not None):
            raise DeepSADError(
                "overrides set dataset.drop or dataset.id, but the columns of an array have no names; leave columns "
                "out of X, or give a data frame"
            )
        settings = fitting.settings_of([*words, *overrides], x.shape[1] if are_rows else None)
        # The seed has been drawn, which may have moved a global stream as it should.
        with process_state_kept():
            detector = fitting.fit_detector(settings, in_memory(x, semi_y, settings["dataset"].get("scaling")))
        on_gpu = parameters["device"] == "cuda" or (parameters["device"] == "auto" and _has_gpu())
        return detector.to("cuda" if on_gpu else "cpu")

    def _words(self, parameters: dict[str, Any], are_rows: bool) -> list[str]:
        """The parameters as command-line overrides."""
        given = {name: value for name, value in parameters.items() if value is not None}
        problems = [
            f"{name} is {parameters[name]!r}; choose one of {', '.join(choices)}"
            for name, choices in CHOICES.items()
            if name in parameters and parameters[name] not in choices
        ]
        if not isinstance(network := given.get("network", {}), Mapping):
            problems.append(f"network is {network!r}; give its settings by name, such as {{'units': [64, 32]}}")
        if problems:
            raise DeepSADError(*problems)
        words = [f"method={self._method()}", f"threshold={given['threshold']}"]
        words.append(f"seed={_seed(parameters['random_state'])}")
        words.append(f"trainer.accelerator={_ACCELERATORS[given['device']]}")
        if "pretrain" in parameters:
            words.append(f"pretrain={override_text(parameters['pretrain'] or 'none')}")
        if given["threshold"] != "labeled" and "alpha" in given:
            words.append(f"threshold.alpha={override_text(given['alpha'])}")
        if are_rows and "scaling" in given:
            words.append(f"dataset.scaling={override_text(given['scaling'])}")
        for name, value in network.items():
            words.append(f"dataset.network.{name}={override_text(value)}")
        for name, value in given.items():
            if name not in _TRANSLATED:
                words.append(f"{_PLACES.get(name, f'method.{name}')}={override_text(value)}")
        return words

    def _scores(self, X: Any) -> Floats:  # noqa: N803
        check_is_fitted(self, "detector_")
        x = self._checked(X, fitting=False)
        if x.ndim == 4 and self.detector_.facts.inputs.scale is None:
            x = _between_0_and_1(x)
        try:
            scores: Floats = self.detector_.score(x)
        except DeepSADError as error:
            raise ValueError(str(error)) from error
        return scores


def _schedule_words(parameters: dict[str, Any], recommended: dict[str, Any]) -> list[str]:
    """The overrides that set learning rates and epochs; a single number makes a schedule of one phase.

    A single rate without epochs is used for as many epochs as the recommended schedule has. A single number of epochs
    without a rate uses the first recommended rate.
    """
    words: list[str] = []
    for group, names in _SCHEDULES.items():
        lr, epochs = (parameters.get(name) for name in names)
        if lr is None and epochs is None:
            continue
        if lr is None and not _is_sequence(epochs):
            lr = recommended["lr"][0]
        if epochs is None and not _is_sequence(lr):
            epochs = sum(recommended["epochs"])
        values = {"lr": lr, "epochs": epochs}
        for name, value in values.items():
            if value is not None:
                words.append(f"{group}.{name}={override_text(value if _is_sequence(value) else [value])}")
    return words


def _between_0_and_1(images: Samples) -> Samples:
    """Images for a detector that was trained on floats from 0 to 1; whole numbers are divided by 255.

    Raises:
        ValueError: if floats are outside of this range.
    """
    x = np.asarray(images)
    # Cells without a value are refused later.
    low, high = np.nanmin(x), np.nanmax(x)
    if x.dtype.kind != "f" and high == 1:
        raise ValueError(
            "X has whole numbers from 0 to 1, which may be pixels of 0 to 255 or not; give floats from 0 to 1"
        )
    if x.dtype.kind != "f" and 0 <= low <= high <= 255:
        return x / 255
    if low < 0 or high > 1:
        raise ValueError(
            f"X has images with values from {low:.9g} to {high:.9g}, but fit was given floats from 0 to 1; divide by "
            "255, or give whole numbers from 0 to 255"
        )
    return x


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)


def _seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
