"""Arrays in one ``.npz`` file, written atomically and read without pickle, and masked arrays. No torch here."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.files import write_atomic


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write an ``.npz`` file atomically: a killed process never leaves a part of it."""
    named: dict[str, Any] = dict(arrays)
    file = BytesIO()
    np.savez_compressed(file, **named)
    write_atomic(path, file.getvalue())


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read all arrays of an ``.npz`` file; pickled objects are refused.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged or no ``.npz`` file.
    """
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("not an .npz archive")
        with file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise
    # A damaged file raises nearly any error: BadZipFile, zlib.error, or any error that a broken header causes.
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from error


def without_mask(x: npt.ArrayLike) -> npt.NDArray[Any]:
    """An array with NaN in place of masked values."""
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        filled: npt.NDArray[Any] = np.where(
            np.ma.getmaskarray(x), np.nan, x.data.astype("O" if x.dtype.kind in "OU" else "d")
        )
        return filled
    return np.asarray(x)
