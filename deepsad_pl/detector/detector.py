"""A trained detector that scores raw input: arrays, data frames, images."""

import copy
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from deepsad_pl.common.arrays import read_arrays
from deepsad_pl.common.calibration_scores import read_calibration
from deepsad_pl.common.checkpoints import DamagedError, from_bytes
from deepsad_pl.common.components import load
from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.thresholds import Threshold, allows, p_values, smallest_alpha
from deepsad_pl.data.batch_loader import batch_sizes
from deepsad_pl.data.datamodule import scoring_batch_size
from deepsad_pl.detector.contributions import integrated_gradients, occlusion, patch_occlusion, summed
from deepsad_pl.detector.detector_folder import (
    CALIBRATION,
    DETECTOR,
    MODEL,
    MODULE,
    REFERENCES,
    Facts,
    read_facts,
)
from deepsad_pl.detector.inputs import Prepared, unusual_sentences
from deepsad_pl.detector.read_input import chunks_of
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.networks.description import require_networks
from deepsad_pl.shallow.models import Model, load_model

Floats = npt.NDArray[np.float64]
# Fewer samples are padded to this number: matrix products of fewer rows round differently, and a sample's score must
# not depend on the other samples.
_LEAST_SAMPLES = 8

Raw = npt.ArrayLike | pd.DataFrame | str | Path | Sequence[str] | Sequence[Path]


class UnusualInputWarning(UserWarning):
    """Warns that scored samples have categories or empty cells that no training row has."""


class Detector:
    """A trained detector, always in evaluation mode: a sample's score does not depend on the other samples.

    Raw input ``x`` is an array of rows (n, D) or pixels (n, C, H, W), a data frame, or the path of a table, an image
    or a folder of images, or a list of paths.

    Args:
        facts: contents of ``detector.json``.
        module: the trained module; for a hybrid method the autoencoder; None for a shallow method on raw input.
        model: the model of a shallow method; None for a deep one.
        calibration: scores and semi-labels of calibration samples, shape (n,) each; None: there is no threshold.
        references: training samples that explanations compare with, as a network takes them, shape (R, ...); None:
            scores cannot be explained.

    Attributes:
        facts: as given.
        batch_size: number of samples scored at once.
        threshold: kind and level of the threshold.
    """

    def __init__(
        self,
        facts: Facts,
        module: TrainedMethod | None,
        model: Model | None,
        calibration: tuple[Floats, npt.NDArray[np.int64]] | None = None,
        references: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self.facts = facts
        self.batch_size = scoring_batch_size(facts.inputs.shape)
        self._module = None if module is None else module.eval().requires_grad_(False)
        self._model = model
        self._calibration = calibration
        self._references = references
        self._device = torch.device("cpu")
        # A folder with calibration scores whose record names no threshold is read as conformal.
        described: dict[str, Any] = dict(facts.threshold or {"kind": "conformal", "alpha": 0.05})
        known = {key: described[key] for key in Threshold.__dataclass_fields__ if key in described}
        self.threshold = Threshold(**known)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Load a detector from its folder.

        Raises:
            DeepSADError: if the folder is incomplete, damaged or of another release.
        """
        facts, module, model, calibration, references = read_facts(folder), None, None, None, None
        if facts.target is not None:
            module = _module(folder / MODULE, facts.target)
        if facts.package is not None:
            model = load_model(folder / MODEL, facts.package)
        if (folder / CALIBRATION).exists():
            try:
                score, y = read_calibration(folder.parent)
                calibration = score.astype(np.float64), y.astype(np.int64)
            except ValueError as error:
                raise DeepSADError(f"{folder / CALIBRATION} is damaged ({error}); copy it again") from error
        if REFERENCES in facts.files:
            references = _references(folder / REFERENCES)
        return cls(facts, module, model, calibration, references)

    @property
    def module(self) -> TrainedMethod | None:
        """The trained module, in evaluation mode; see the class."""
        return self._module

    @property
    def model(self) -> Model | None:
        """The model of a shallow method; None for a deep one."""
        return self._model

    @property
    def has_threshold(self) -> bool:
        """Whether there are calibration scores, which p-values and predictions need."""
        return self._calibration is not None

    def __getstate__(self) -> dict[str, Any]:
        """The state of copies and pickles, which are on the CPU: there may be no other device where they are loaded."""
        module = self._module if self._device.type == "cpu" else copy.deepcopy(self._module)
        return {**self.__dict__, "_module": module and module.cpu(), "_device": torch.device("cpu")}

    def to(self, device: str | torch.device) -> Self:
        """Move the detector to a device; the model of a shallow method stays on the CPU.

        Raises:
            DeepSADError: if there is no such device here.
        """
        try:
            self._device = torch.device(device)
            if self._device.type == "meta":
                raise RuntimeError("it holds no numbers")
            if self._module is not None:
                self._module.to(self._device)
        except (RuntimeError, AssertionError) as error:
            said = str(error).partition("\n")[0]
            raise DeepSADError(f"the detector cannot be moved to the device {device} ({said}); use cpu") from error
        return self

    def score(self, x: Raw) -> Floats:
        """The anomaly score of each sample, shape (n,); higher is more anomalous.

        Rows with categories or empty cells that no training row has are scored, and a warning counts them.

        Args:
            x: raw input; if the training columns have names, other columns of a table are ignored.

        Raises:
            DeepSADError: if the shape or the columns of x are wrong, or samples cannot be scored, of which it names the
                first ten.
        """
        scores, problems, unusual = [np.empty(0)], list[str](), Counter[str]()
        for names, prepared in self._prepared(x):
            found = self.scored(prepared)
            scores.append(found)
            problems += _sentences(names, prepared)
            unusual += prepared.unusual
        _require_none(problems)
        if unusual:
            warnings.warn("; ".join(unusual_sentences(unusual)), UnusualInputWarning, stacklevel=2)
        return np.concatenate(scores)

    def p_value(self, x: Raw) -> Floats:
        """The conformal p-value of each sample, shape (n,), in (0, 1]: how unusual its score is for a normal sample.

        A score is compared with those of the calibration samples that are not known anomalies. With
        ``threshold=quantile``, these samples were trained on, so p-values of fresh normal samples are too low.

        Args:
            x: raw input.

        Raises:
            DeepSADError: if the run has no threshold; see also :meth:`score`.
        """
        self._require_threshold()
        return self.p_values_of(self.score(x))

    def predict(self, x: Raw) -> npt.NDArray[np.int64]:
        """+1 for each normal sample, -1 for each anomaly, shape (n,).

        Args:
            x: raw input.

        Raises:
            DeepSADError: if the run has no threshold; see also :meth:`score`.
        """
        self._require_threshold()
        return np.where(self.are_anomalies(self.score(x)), -1, 1)

    @property
    def explains(self) -> bool:
        """Whether scores can be explained; detectors of the first release cannot do so."""
        return self._references is not None

    @property
    def baseline_score(self) -> float:
        """The mean score of the references; a deep method's contributions add up to a sample's score minus this.

        Raises:
            DeepSADError: if the detector has no references.
        """
        return float(self._scores(self.require_references()).mean())

    def explain(self, x: Raw) -> pd.DataFrame | Floats:
        """How much each column of a table, or each pixel of an image, contributes to the score of a sample.

        Samples are compared with references: training samples that are not labeled anomalies. The contributions are
        integrated gradients for a deep method; they add up to the sample's score minus :attr:`baseline_score`. For a
        shallow method they are computed by occlusion: each is the average decrease of the score if a column or a patch
        is replaced by that of a reference.

        Args:
            x: raw input.

        Returns:
            A frame (n, columns) for rows, with the names of the table's columns or, without names, numbers from 0.
            An array (n, H, W) for images.

        Raises:
            DeepSADError: if the detector has no references; see also :meth:`score`.
        """
        self.require_references()
        parts, problems = [], list[str]()
        for names, prepared in self._prepared(x):
            self.scored(prepared)
            problems += _sentences(names, prepared)
            if not problems:
                parts.append(self.explained(prepared.x))
        _require_none(problems)
        inputs = self.facts.inputs
        if not inputs.are_rows:
            return np.concatenate([np.empty((0, *inputs.shape[-2:])), *parts])
        columns = inputs.feature_names
        return pd.DataFrame(np.concatenate([np.empty((0, len(columns))), *parts]), columns=columns)

    def explained(self, x: npt.NDArray[Any], *, most_occlusions: int | None = None) -> Floats:
        """Contributions to the scores of prepared samples without problems: (n, columns) or (n, H, W).

        Args:
            x: the samples.
            most_occlusions: the largest number of references that replace a patch of an image for a shallow method;
                None: all of them.
        """
        inputs, references = self.facts.inputs, self.require_references()
        groups, parts = inputs.feature_groups, []
        for part in self._batches(x):
            seen = self._seen(torch.from_numpy(part))
            if self._model is None:
                assert self._module is not None
                found = integrated_gradients(self._module.score, seen, references)
                parts.append(summed(found, groups) if inputs.are_rows else found.sum(axis=1))
            elif inputs.are_rows:
                parts.append(occlusion(self._scores, seen, references, groups))
            else:
                parts.append(patch_occlusion(self._scores, seen, references[:most_occlusions]))
        shape = (groups.max() + 1,) if inputs.are_rows else inputs.shape[-2:]
        return np.concatenate([np.empty((0, *shape)), *parts])

    def with_alpha(self, alpha: float | None) -> Self:
        """Set the false-alarm rate and return this detector itself; None keeps the current rate.

        Args:
            alpha: in (0, 1); for a conformal threshold at least 1 / (n + 1) with n calibration samples.

        Raises:
            DeepSADError: if the run has no threshold or one without alpha, or alpha is out of range or too small; the
                detector keeps its rate.
        """
        if alpha is not None:
            self._require_threshold()
            if not isinstance(alpha, int | float | np.floating) or not 0 < alpha < 1:
                raise DeepSADError(f"threshold.alpha is {alpha!r}; give a rate between 0 and 1")
            if self.threshold.kind == "labeled":
                raise DeepSADError(
                    f"threshold.alpha is {alpha:g}, but the run has threshold=labeled, which has no alpha; leave it "
                    "out, or repeat the run's command with another threshold.fpr, which trains nothing"
                )
            self._require_enough(alpha)
            self.threshold = replace(self.threshold, alpha=alpha)
        if self._calibration is not None:
            self.threshold_value()
        return self

    def scored(self, prepared: Prepared) -> Floats:
        """The scores of prepared samples, shape (n,); NaN if a sample has a problem or its score is not finite.

        A sample without a finite score is added to ``prepared.problems``.
        """
        score = np.full(len(prepared.x), np.nan)
        right = np.ones(len(score), bool)
        right[list(prepared.problems)] = False
        kept = np.flatnonzero(right)
        x = prepared.x if len(kept) == len(score) else prepared.x[kept]
        score[kept] = self._score(x)
        for row in kept[~np.isfinite(score[kept])]:
            prepared.problems[int(row)] = f"its score is {score[row]}: its values are too far from the training data"
            score[row] = np.nan
        return score

    @torch.no_grad()
    def represented(self, prepared: Prepared) -> npt.NDArray[np.float32]:
        """The representations phi(x) of prepared samples, shape (n, d); x itself for a shallow method on raw input."""
        parts = [self._features(self._seen(torch.from_numpy(part))).cpu().numpy() for part in self._batches(prepared.x)]
        return np.concatenate(parts).astype(np.float32)

    def p_values_of(self, score: Floats) -> Floats:
        """p-values of finite scores, of the same shape."""
        assert self._calibration is not None
        calibration, y = self._calibration
        return p_values(calibration[y != -1], score)

    def are_anomalies(self, score: Floats) -> npt.NDArray[np.bool_]:
        """Whether each finite score is above the threshold."""
        return score > self.threshold_value()

    def threshold_value(self, *, tolerance: float = 0.0) -> float:
        """The score above which a sample is an anomaly.

        Args:
            tolerance: raises it by this share of itself, or of the median absolute calibration score, for scores that
                are computed elsewhere and differ by rounding: the threshold is the score of a calibration sample, which
                new samples may share.

        Raises:
            DeepSADError: if the run has no threshold, or its calibration samples are too few for alpha.
        """
        self._require_threshold()
        assert self._calibration is not None
        calibration, y = self._calibration
        if self.threshold.kind != "labeled":
            calibration, y = calibration[y != -1], y[y != -1]
        value = self.threshold.value(calibration, y)
        # Not of the largest score, which one outlier may set.
        return value + tolerance * max(abs(value), float(np.median(np.abs(calibration)))) if tolerance else value

    def _require_enough(self, alpha: float) -> None:
        """Raise an error if there are too few calibration samples for alpha; it says what can still be done."""
        assert self._calibration is not None
        samples = int((self._calibration[1] != -1).sum())
        if self.threshold.kind == "conformal" and not allows(samples, alpha):
            smallest = smallest_alpha(samples)
            raise DeepSADError(
                f"threshold.alpha is {alpha:g}, but with the run's {counted(samples, 'calibration sample')} the "
                f"smallest possible is {smallest:g}; give threshold.alpha={smallest:g} or more, or train again with a "
                "larger threshold.share, or with threshold=quantile"
            )

    def _require_threshold(self) -> None:
        if not self.has_threshold:
            raise DeepSADError(
                "this run has no threshold, so there are neither p-values nor predictions; use score, or train with "
                "threshold=conformal"
            )

    def _prepared(self, x: Raw) -> Iterator[tuple[Sequence[Any], Prepared]]:
        inputs = self.facts.inputs
        if isinstance(x, pd.DataFrame):
            yield [f"row {place}" for place in range(len(x))], inputs.from_frame(x)
            return
        is_list = isinstance(x, list | tuple) and len(x) > 0 and isinstance(x[0], str | Path)
        if isinstance(x, str | Path) or is_list:
            for chunk in chunks_of(cast(Any, x if is_list else [x]), inputs):
                yield chunk.names, chunk.prepared
            return
        prepared = inputs.from_array(cast(npt.ArrayLike, x))
        yield [f"sample {place}" for place in range(len(prepared.x))], prepared

    @torch.no_grad()
    def _score(self, x: npt.NDArray[Any]) -> Floats:
        if not len(x):
            return np.empty(0)
        if (lacking := min(_LEAST_SAMPLES, self.batch_size) - len(x)) > 0:
            return self._score(np.concatenate([x, np.repeat(x[-1:], lacking, axis=0)]))[: len(x)]
        parts = [self._of_seen(self._seen(torch.from_numpy(part))) for part in self._batches(x)]
        return (
            np.concatenate(parts).astype(np.float64)
            if self._model is None
            else self._model.score(np.concatenate(parts))
        )

    def _batches(self, x: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
        first = 0
        for size in batch_sizes(len(x), self.batch_size):
            yield np.array(x[first : first + size])
            first += size

    def _seen(self, x: torch.Tensor) -> torch.Tensor:
        """Prepared samples as a network takes them."""
        x = x.to(self._device).float()
        return x if self.facts.inputs.scale is None else x.div_(self.facts.inputs.scale)

    @torch.no_grad()
    def _scores(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of samples in the form that a network takes, float64, shape (B,)."""
        found = self._of_seen(x)
        return torch.from_numpy(found.astype(np.float64) if self._model is None else self._model.score(found))

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) if self._module is None else self._module.represent(x).float()

    def _of_seen(self, x: torch.Tensor) -> npt.NDArray[Any]:
        """The scores of a deep method, or the features that a shallow method scores."""
        if self._module is None or self._model is not None:
            found = self._features(x)
        else:
            precision: AbstractContextManager[Any] = nullcontext()
            if self.facts.precision == "bf16-mixed":
                precision = torch.autocast(self._device.type, dtype=torch.bfloat16)
            with precision:
                found = self._module.checked_score(x)
            found = found.double()
        result: npt.NDArray[Any] = found.cpu().numpy()
        return result

    def require_references(self) -> torch.Tensor:
        """The training samples that explanations compare with, as a network takes them, shape (R, ...).

        Raises:
            DeepSADError: if the detector has none.
        """
        if self._references is None:
            raise DeepSADError(
                f"this detector is from a release without explanations; remove the run's folder {DETECTOR}, so that it "
                "is made again from the run's checkpoints and data"
            )
        return torch.from_numpy(self._references).to(self._device)


def _sentences(names: Sequence[Any], prepared: Prepared) -> list[str]:
    return [f"{names[place]}: {told}" for place, told in sorted(prepared.problems.items())]


def _require_none(problems: Sequence[str]) -> None:
    if problems:
        more = [f"and {counted(len(problems) - 10, 'more sample')} cannot be scored"] if problems[10:] else []
        raise DeepSADError(*problems[:10], *more)


def _references(path: Path) -> npt.NDArray[np.float32]:
    """The samples that explanations compare with.

    Raises:
        DeepSADError: if the file has none.
    """
    try:
        x = read_arrays(path)["x"]
        if x.dtype != np.float32 or x.ndim < 2 or not np.isfinite(x).all():
            raise ValueError(f"x is {x.dtype} {x.shape}")
    except (ValueError, KeyError) as error:
        raise DeepSADError(f"{path} does not hold samples to compare with ({error}); copy the run again") from error
    return x


def _module(path: Path, target: str) -> TrainedMethod:
    kind = load(target, "the class of the detector")
    if not (isinstance(kind, type) and issubclass(kind, TrainedMethod)):
        raise DeepSADError(
            f"the class of the detector {path.parent} is {target}, which is not a TrainedMethod; copy the run again"
        )
    try:
        hyper_parameters = from_bytes(path.read_bytes()).get("hyper_parameters", {})
        # Lightning would call what is named there.
        if "_instantiator" in hyper_parameters:
            raise DamagedError("its hyper-parameters name a function to call")
        require_networks(hyper_parameters.get("network"))
        # Initial weights, which are then replaced, are drawn from the global generator.
        with torch.random.fork_rng(devices=[]):
            module = kind.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except DeepSADError:
        raise
    except Exception as error:  # a class from outside can raise nearly anything
        said = str(error).partition("\n")[0]
        raise DeepSADError(
            f"{target} cannot be created from {path} ({type(error).__name__}: {said}); a class of your own must call "
            "self.save_hyperparameters() in its constructor"
        ) from error
    return module
