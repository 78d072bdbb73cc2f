"""A trained detector that scores raw input: arrays, data frames, images."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from deepsad_pl.common.calibration_scores import read_calibration
from deepsad_pl.common.components import load
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.thresholds import Threshold, p_values
from deepsad_pl.data.batch_loader import batch_sizes
from deepsad_pl.data.datamodule import scoring_batch_size
from deepsad_pl.detector.detector_folder import CALIBRATION, MODEL, MODULE, Facts, read_facts
from deepsad_pl.detector.inputs import Prepared
from deepsad_pl.detector.read_input import chunks_of
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.shallow.models import Model, load_model

Floats = npt.NDArray[np.float64]
# The matrix products of fewer rows round in another way, and a score must not depend on the samples beside it.
_LEAST_SAMPLES = 8

Raw = npt.ArrayLike | pd.DataFrame | str | Path | Sequence[str] | Sequence[Path]


class Detector:
    """A trained detector. It is always in evaluation mode: the score of a sample does not depend on those beside it.

    Raw input ``x`` is an array of rows (n, D) or pixels (n, C, H, W), a data frame, or the path of a table, an image
    or a folder of images, or a list of paths.

    Args:
        facts: what its folder says.
        module: the trained module; for a hybrid method the autoencoder; None for a shallow method on raw input.
        model: the model of a shallow method.
        calibration: scores and semi-labels of calibration samples, shape (n,) each; None: there is no threshold.

    Attributes:
        facts: as given.
        batch_size: samples in a batch of scoring.
        threshold: kind and level of the threshold.
    """

    def __init__(
        self,
        facts: Facts,
        module: TrainedMethod | None,
        model: Model | None,
        calibration: tuple[Floats, npt.NDArray[np.int64]] | None = None,
    ) -> None:
        self.facts = facts
        self.batch_size = scoring_batch_size(facts.inputs.shape)
        self._module = module if module is None else module.eval()
        self._model = model
        self._calibration = calibration
        self._device = torch.device("cpu")
        # A folder with calibration scores whose record names no threshold is read as conformal.
        described: dict[str, Any] = {"kind": "conformal", "alpha": 0.05} | dict(facts.threshold or {})
        known = {key: described[key] for key in Threshold.__dataclass_fields__ if key in described}
        self.threshold = Threshold(**known)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Load a detector from its folder.

        Raises:
            DeepSADError: if it is missing, damaged or of another release.
        """
        facts, module, model, calibration = read_facts(folder), None, None, None
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
        return cls(facts, module, model, calibration)

    @property
    def has_threshold(self) -> bool:
        """Whether there are calibration scores, and so p-values and anomalies."""
        return self._calibration is not None

    def __getstate__(self) -> dict[str, Any]:
        """A copy or a pickle is on the CPU, for it may be read where there is no other device."""
        module = self._module if self._device.type == "cpu" else copy.deepcopy(self._module)
        return {**self.__dict__, "_module": module and module.cpu(), "_device": torch.device("cpu")}

    def to(self, device: str | torch.device) -> Self:
        """Move it to a device; a shallow method's model stays on the CPU.

        Raises:
            DeepSADError: if there is no such device here.
        """
        try:
            self._device = torch.device(device)
            if self._module is not None:
                self._module.to(self._device)
        except (RuntimeError, AssertionError) as error:
            said = str(error).partition("\n")[0]
            raise DeepSADError(f"the detector cannot be moved to the device {device} ({said}); use cpu") from error
        return self

    def score(self, x: Raw) -> Floats:
        """The anomaly score of each sample, shape (n,); higher is more anomalous.

        Args:
            x: raw input.

        Raises:
            DeepSADError: if x has another shape or other columns, or a sample cannot be scored; names the first ones.
        """
        scores, problems = [np.empty(0)], []
        for names, prepared in self._prepared(x):
            found = self.scored(prepared)
            scores.append(found)
            problems += [f"{names[place]}: {told}" for place, told in sorted(prepared.problems.items())]
        if problems:
            more = [f"and {len(problems) - 10} more samples cannot be scored"] if problems[10:] else []
            raise DeepSADError(*problems[:10], *more)
        return np.concatenate(scores)

    def p_value(self, x: Raw) -> Floats:
        """The conformal p-value of each sample, shape (n,), in (0, 1]: how unusual its score is for a normal sample.

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

    def with_alpha(self, alpha: float | None) -> Self:
        """The same detector with another false-alarm rate; None leaves it as it was trained.

        Raises:
            DeepSADError: if the run has no threshold, or its calibration samples are too few for alpha.
        """
        if alpha is not None:
            self._require_threshold()
            self.threshold = replace(self.threshold, alpha=alpha)
        if self._calibration is not None:
            self.threshold_value()
        return self

    def scored(self, prepared: Prepared) -> Floats:
        """The scores of prepared samples, shape (n,); NaN where one has a problem, or now gets one."""
        score = np.full(len(prepared.x), np.nan)
        kept = np.setdiff1d(np.arange(len(score)), list(prepared.problems))
        x = prepared.x if len(kept) == len(score) else prepared.x[kept]
        score[kept] = self._score(x)
        for row in kept[~np.isfinite(score[kept])]:
            prepared.problems[int(row)] = f"its score is {score[row]}: its values are too far from the training data"
            score[row] = np.nan
        return score

    def p_values_of(self, score: Floats) -> Floats:
        """p-values of finite scores, of the same shape."""
        assert self._calibration is not None
        calibration, y = self._calibration
        return p_values(calibration[y != -1], score)

    def are_anomalies(self, score: Floats) -> npt.NDArray[np.bool_]:
        """Whether each finite score is that of an anomaly: above the threshold."""
        return score > self.threshold_value()

    def threshold_value(self) -> float:
        """The score above which a sample is an anomaly.

        Raises:
            DeepSADError: if the run has no threshold, or its calibration samples are too few for alpha.
        """
        self._require_threshold()
        assert self._calibration is not None
        calibration, y = self._calibration
        if self.threshold.kind != "labeled":
            calibration, y = calibration[y != -1], y[y != -1]
        return self.threshold.value(calibration, y)

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
        parts = [self._of_batch(torch.from_numpy(part)) for part in self._batches(x)]
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

    def _of_batch(self, x: torch.Tensor) -> npt.NDArray[Any]:
        """Scores of a deep method, or the features of a shallow one."""
        x = x.to(self._device).float()
        if self.facts.inputs.scale is not None:
            x = x.div_(self.facts.inputs.scale)
        if self._module is None:
            found = x.flatten(1)
        elif self._model is not None:
            found = self._module.represent(x).float()
        else:
            precision: AbstractContextManager[Any] = nullcontext()
            if self.facts.precision == "bf16-mixed":
                precision = torch.autocast(self._device.type, dtype=torch.bfloat16)
            with precision:
                found = self._module.checked_score(x)
            found = found.double()
        result: npt.NDArray[Any] = found.cpu().numpy()
        return result


def _module(path: Path, target: str) -> TrainedMethod:
    kind = load(target, "the class of the detector")
    try:
        module = kind.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except DeepSADError:
        raise
    except Exception as error:  # of a class from outside, nearly anything
        said = str(error).partition("\n")[0]
        raise DeepSADError(
            f"{target} cannot be made from {path} ({type(error).__name__}: {said}); a class of your own must call "
            "self.save_hyperparameters() in its constructor"
        ) from error
    assert isinstance(module, TrainedMethod)
    return module
