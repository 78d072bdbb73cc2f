"""Read and write the calibration scores of a run, from which its threshold is computed. Does not import torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.arrays import read_arrays, write_arrays
from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError

# Path in the run folder.
CALIBRATION = Path("detector") / "calibration.npz"


def write_calibration(run_dir: Path, score: npt.ArrayLike, semi_y: npt.ArrayLike) -> None:
    """Write ``detector/calibration.npz``.

    Args:
        run_dir: the run folder.
        score: anomaly scores, shape (n,).
        semi_y: 0 unlabeled, +1 known normal, -1 known anomaly, shape (n,).
    """
    path = run_dir / CALIBRATION
    path.parent.mkdir(exist_ok=True)
    write_arrays(path, {"score": np.asarray(score), "y": np.asarray(semi_y)})


def read_calibration(run_dir: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Read the scores, in the precision in which they were computed, and the semi-labels, shape (n,) each.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged.
    """
    arrays = read_arrays(run_dir / CALIBRATION)
    if set(arrays) != {"score", "y"} or arrays["score"].shape != arrays["y"].shape or arrays["score"].ndim != 1:
        raise ValueError(f"its arrays are {', '.join(arrays) or 'missing'}, not score and y of the same length")
    kinds = arrays["score"].dtype.kind, arrays["y"].dtype.kind
    if kinds != ("f", "i") or not np.isfinite(arrays["score"]).all():
        raise ValueError("its scores are not finite numbers, or its labels no whole numbers")
    return arrays["score"], arrays["y"]


def calibration_problem(run_dir: Path, record: Mapping[str, Any]) -> str | None:
    """What is wrong with the calibration scores of a finished run that has a threshold, or None.

    Args:
        run_dir: the run folder.
        record: the valid record of the run.

    Raises:
        DeepSADError: if the file cannot be read at all.
    """
    try:
        score, _ = read_calibration(run_dir)
    except FileNotFoundError:
        return "is missing"
    except ValueError as error:
        return f"is damaged ({error})"
    except OSError as error:
        told = f"{run_dir / CALIBRATION} cannot be read ({error}); make it readable, or choose another output_dir"
        raise DeepSADError(told) from error
    rows = record.get("threshold", {}).get("rows")
    return None if rows == len(score) else f"has {counted(len(score), 'score')}, but its record says {rows}"
